/**
 * Where conversations are cached: this gateway's memory of which provider got which beginning of a prompt. Keys
 * are hashes, salted per API key, so that nobody learns through speed what others asked.
 */
import type { Prompt } from "../protocol/generate.ts";

/** Beginnings that are remembered; the longest unused is forgotten first. */
const keysMax = 20_000;
/** Providers remembered per beginning. */
const holdersMax = 4;
/** Beginnings of one prompt: its first and its last ones. */
const pointsMax = 16;
/** Text without messages is cut here. */
const blockChars = 1_024;
const blockTokens = 256;
/** Blocks beyond these are not hashed: who shares so much shares a conversation. */
const blocksMax = 64;
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
    for (const { role, content } of prompt.messages) {
      add(`${role}\n${excerpt(content)}`, messageTokens + Math.ceil(content.length / charsPerToken));
    }
  } else if (prompt.kind === "text") {
    const { text } = prompt;
    const blocks = Math.min(Math.floor(text.length / blockChars), blocksMax);
    for (let i = 0; i < blocks; i++) {
      add(text.slice(i * blockChars, (i + 1) * blockChars), blockChars / charsPerToken);
    }
    tokens = Math.ceil(text.length / charsPerToken);
  } else {
    const { tokenIds } = prompt;
    const blocks = Math.min(Math.floor(tokenIds.length / blockTokens), blocksMax);
    for (let i = 0; i < blocks; i++) {
      add(tokenIds.slice(i * blockTokens, (i + 1) * blockTokens).join(), blockTokens);
    }
    tokens = tokenIds.length;
  }
  return { points, promptTokens: Math.max(1, tokens) };
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

/** 53 bits of a text, chained through `seed` (cyrb53 by bryc, public domain). */
function hash(text: string, seed: number): number {
  let h1 = 0xdeadbeef ^ seed;
  let h2 = 0x41c6ce57 ^ Math.floor(seed / 2 ** 32) ^ seed;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    h1 = Math.imul(h1 ^ code, 2_654_435_761);
    h2 = Math.imul(h2 ^ code, 1_597_334_677);
  }
  h1 = Math.imul(h1 ^ (h1 >>> 16), 2_246_822_507) ^ Math.imul(h2 ^ (h2 >>> 13), 3_266_489_909);
  h2 = Math.imul(h2 ^ (h2 >>> 16), 2_246_822_507) ^ Math.imul(h1 ^ (h1 >>> 13), 3_266_489_909);
  return 2 ** 32 * (2_097_151 & h2) + (h1 >>> 0);
}
