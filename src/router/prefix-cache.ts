/**
 * Where conversations are cached: this gateway's memory of which provider got which beginning of a prompt. Keys
 * are hashes, salted per API key, so that nobody learns through speed what others asked.
 */
import { messageText, toolsText } from "../protocol/chat-texts.ts";
import type { Prompt } from "../protocol/generate.ts";

/** Beginnings that are remembered, about 20 MB; the longest unused is forgotten first. */
const keysMax = 100_000;
/** Providers remembered per beginning. */
const holdersMax = 4;
/** Beginnings of one conversation: its first and its last ones. */
const pointsMax = 16;
/** Text without messages is cut here. */
const blockChars = 1_024;
const blockTokens = 256;
/**
 * Of a prompt without messages nobody knows where the shared part ends: beginnings of each length up to this many
 * blocks are remembered, then each longer by this factor. So at least four fifths of what is shared are found.
 */
const everyBlockMax = 4;
const blockFactor = 1.25;
/** Of longer texts only beginning and end are hashed: a collision costs a wrong estimate, no more. */
const hashedChars = 2_048;
/** A KV cache forgets; what was sent longer ago is not expected to be there. */
const holdMs = 10 * 60_000;
/** Bytes of text per token, roughly, for all models alike. */
const charsPerToken = 4;
/** Role and separators around each message. */
const messageTokens = 6;

/** A beginning of a prompt. */
interface Point {
  readonly key: number;
  readonly tokens: number;
}

interface Holder {
  readonly providerId: string;
  readonly atMs: number;
}

/** A prompt's beginnings, shortest first, and its length in estimated tokens. */
export interface PromptKeys {
  readonly points: readonly Point[];
  readonly promptTokens: number;
}

/** @param salt whatever tells gateways, API keys and models apart */
export function promptKeys(prompt: Prompt, salt: string): PromptKeys {
  const points: Point[] = [];
  let key = hash(salt, 1);
  let tokens = 0;
  const add = (text: string, weight: number): void => {
    key = hash(text, key);
    tokens += weight;
    points.push({ key, tokens });
    // The first one is what many conversations share, the last ones what this one needs.
    if (points.length > pointsMax) points.splice(1, 1);
  };
  if (prompt.kind === "chat") {
    const { messages, tools = [] } = prompt;
    const addText = (role: string, text: string): void =>
      add(`${role}\n${excerpt(text)}`, messageTokens + Math.ceil(text.length / charsPerToken));
    // Templates tell of functions before all messages.
    if (tools.length > 0) addText("tools", toolsText(tools));
    for (const message of messages) addText(message.role, messageText(message));
  } else if (prompt.kind === "text") {
    const { text } = prompt;
    const hashBlock = (seed: number, from: number): number => hash(text.slice(from, from + blockChars), seed);
    points.push(...blockPoints(key, text.length, blockChars, hashBlock));
    tokens = Math.ceil((text.length + (prompt.suffix ?? "").length) / charsPerToken);
  } else {
    const { tokenIds } = prompt;
    const hashBlock = (seed: number, from: number): number =>
      hashIds(tokenIds, from, from + blockTokens, seed);
    points.push(...blockPoints(key, tokenIds.length, blockTokens, hashBlock));
    tokens = tokenIds.length;
  }
  return { points, promptTokens: Math.max(1, tokens) };
}

/** @param hashBlock of the block that begins at an index, chained through the seed */
function blockPoints(
  seed: number,
  length: number,
  blockLength: number,
  hashBlock: (seed: number, from: number) => number,
): Point[] {
  const points: Point[] = [];
  const blocks = Math.floor(length / blockLength);
  let key = seed;
  let next = 1;
  for (let block = 1; block <= blocks; block++) {
    key = hashBlock(key, (block - 1) * blockLength);
    if (block < next && block < blocks) continue;
    points.push({ key, tokens: block * blockTokens });
    next = block < everyBlockMax ? block + 1 : Math.ceil(block * blockFactor);
  }
  return points;
}

function excerpt(text: string): string {
  if (text.length <= 2 * hashedChars) return text;
  return `${text.length}\n${text.slice(0, hashedChars)}${text.slice(-hashedChars)}`;
}

export class PrefixCache {
  /** In order of last use. */
  readonly #holders = new Map<number, readonly Holder[]>();

  get size(): number {
    return this.#holders.size;
  }

  /** Tokens of the prompt that each provider probably has, from the longest known beginning on. */
  lookUp({ points }: PromptKeys, nowMs: number): ReadonlyMap<string, number> {
    const cached = new Map<string, number>();
    for (const { key, tokens } of points.toReversed()) {
      for (const { providerId, atMs } of this.#holders.get(key) ?? []) {
        if (nowMs - atMs <= holdMs && !cached.has(providerId)) cached.set(providerId, tokens);
      }
    }
    return cached;
  }

  /** The provider took the whole prompt in. */
  remember({ points }: PromptKeys, providerId: string, nowMs: number): void {
    for (const { key } of points) {
      const others = (this.#holders.get(key) ?? []).filter((holder) => holder.providerId !== providerId);
      this.#holders.delete(key);
      this.#holders.set(key, [{ providerId, atMs: nowMs }, ...others].slice(0, holdersMax));
    }
    while (this.#holders.size > keysMax) this.#holders.delete(this.#holders.keys().next().value!);
  }
}

/** 53 bits of a text, chained through `seed`. */
function hash(text: string, seed: number): number {
  return hashCodes(text.length, (i) => text.charCodeAt(i), seed);
}

function hashIds(tokenIds: readonly number[], from: number, to: number, seed: number): number {
  return hashCodes(to - from, (i) => tokenIds[from + i]!, seed);
}

/** 53 bits of whole numbers, chained through `seed` (cyrb53 by bryc, public domain). */
function hashCodes(length: number, codeAt: (index: number) => number, seed: number): number {
  let h1 = 0xdeadbeef ^ seed;
  let h2 = 0x41c6ce57 ^ Math.floor(seed / 2 ** 32) ^ seed;
  for (let i = 0; i < length; i++) {
    const code = codeAt(i);
    h1 = Math.imul(h1 ^ code, 2_654_435_761);
    h2 = Math.imul(h2 ^ code, 1_597_334_677);
  }
  h1 = Math.imul(h1 ^ (h1 >>> 16), 2_246_822_507) ^ Math.imul(h2 ^ (h2 >>> 13), 3_266_489_909);
  h2 = Math.imul(h2 ^ (h2 >>> 16), 2_246_822_507) ^ Math.imul(h1 ^ (h1 >>> 13), 3_266_489_909);
  return 2 ** 32 * (2_097_151 & h2) + (h1 >>> 0);
}
