/**
 * The naive engine: a deterministic stand-in for tests and the simulator. Token ids are a hash of prompt, seed
 * and position, so an answer is a pure function of the request and can be continued from any position.
 */
import { type Embedded, type EmbedRequest, vectorBytes } from "../protocol/embed.ts";
import type { GenerateEvent, GenerateRequest, Prompt } from "../protocol/generate.ts";
import { chatTexts } from "../protocol/chat-texts.ts";
import type { Feature, ThoughtFormat, ToolFormat } from "../protocol/offer.ts";
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { abortError, throwIfAborted } from "../util/abort.ts";
import { Admission } from "./admission.ts";
import { checkInputLength, dimensionsKept, unitVector } from "./embedding.ts";
import type { AnswerScores, Engine, EngineStatus, ScoreRequest } from "./port.ts";
import { checkLogitBias, checkTokenIds } from "./prompt.ts";
import { AnswerWriter } from "./answer-writer.ts";
import { writeAgain } from "./written-answer.ts";
import { StopMatcher } from "./stop-matcher.ts";

/** Words, and characters whose UTF-8 bytes are spread over several tokens. */
const words = [
  "the ",
  "goose ",
  "flies ",
  "at ",
  "the front, ",
  "then ",
  "another ",
  "takes ",
  "its ",
  "place. ",
];
const encoder = new TextEncoder();
const emoji = encoder.encode("🪿");
const vocabulary: readonly Uint8Array[] = [
  ...words.map((word) => encoder.encode(word)),
  ...Array.from(emoji, (byte) => Uint8Array.of(byte)),
];
const emojiStart = words.length;

export interface NaiveEngineOptions {
  readonly modelId: string;
  readonly name: string;
  readonly contextTokensMax: number;
  readonly parallelMax: number;
  /** Tokens of an answer that nothing else ends; null: up to the context's end. */
  readonly answerTokens: number | null;
  readonly msPerToken: number;
  readonly prefillMs: number;
  readonly queueLengthMax?: number;
  /** Called before each token; may throw or wait, to inject failures and stalls. */
  /** What it says, one character a token; null: what it says otherwise. */
  readonly script?: (request: GenerateRequest) => string | null;
  readonly features?: readonly Feature[];
  readonly toolFormat?: ToolFormat;
  readonly thoughtFormat?: ThoughtFormat;
  readonly onToken?: (request: GenerateRequest, position: number) => Promise<void> | void;
}

export const naiveDefaults: NaiveEngineOptions = {
  modelId: "naive:1",
  name: "naive",
  contextTokensMax: 512,
  parallelMax: 4,
  answerTokens: 24,
  msPerToken: 0,
  prefillMs: 0,
};

export function createNaiveEngine(
  deps: { clock: Clock },
  options: NaiveEngineOptions,
): Engine & { become(status: EngineStatus): void } {
  const admission = new Admission(options.parallelMax, options.queueLengthMax);
  const listeners = new Set<(status: EngineStatus) => void>();
  const closed = new AbortController();
  let status: EngineStatus = { state: "ready" };

  function requireReady(): void {
    if (status.state === "ready" && !closed.signal.aborted) return;
    const reason = status.state === "ready" ? "it is closed" : status.reason;
    throw new SkeinError("engine_unavailable", `The engine does not run: ${reason}.`);
  }

  async function* generate(request: GenerateRequest, outer: AbortSignal): AsyncGenerator<GenerateEvent> {
    requireReady();
    const promptTokens = countTokens(request.prompt);
    const used = promptTokens + request.emitted.tokenIds.length;
    if (used > options.contextTokensMax) throw tooLong(used, options.contextTokensMax);
    checkLogitBias(request.sampling, vocabulary.length);
    const signal = AbortSignal.any([outer, closed.signal]);
    const askedMs = deps.clock.monotonicMs();
    const leave = await admission.enter(signal);
    try {
      const queueMs = Math.round(deps.clock.monotonicMs() - askedMs);
      yield* answer(request, promptTokens, queueMs, signal);
    } finally {
      leave();
    }
  }

  async function* answer(
    request: GenerateRequest,
    promptTokens: number,
    queueMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<GenerateEvent> {
    const startMs = deps.clock.monotonicMs();
    await sleep(deps.clock, options.prefillMs, signal);
    yield { type: "start", promptTokens, cachedTokens: 0 };
    const key = keyOf(request);
    const bias = new Map(request.sampling.logitBias);
    const script = options.script?.(request) ?? null;
    const scripted = script === null ? null : Array.from(script, (character) => character.codePointAt(0)!);
    const decoder = new TextDecoder();
    const stop = new StopMatcher(request.stop);
    // Text comes again that an earlier attempt delivered, what it held back until its lost end included.
    let known = request.emitted.text.length;
    const fresh = (text: string): string => {
      const rest = text.slice(known);
      known -= text.length - rest.length;
      return rest;
    };
    const push = (id: number): { text: string; stopped: boolean } => {
      const bytes = script === null ? vocabulary[id] : encoder.encode(String.fromCodePoint(id));
      const pushed = stop.push(decoder.decode(bytes, { stream: true }));
      return { ...pushed, text: fresh(pushed.text) };
    };
    let rest = "";
    let stopped = false;
    for (const id of request.emitted.tokenIds) {
      const pushed = push(id);
      rest += pushed.text;
      stopped = pushed.stopped;
    }
    const natural = scripted?.length ?? options.answerTokens ?? Number.POSITIVE_INFINITY;
    const room = options.contextTokensMax - promptTokens;
    const limit = Math.min(request.outputTokensMax ?? Number.POSITIVE_INFINITY, room);
    let position = request.emitted.tokenIds.length;
    if (rest !== "") yield { type: "tokens", position, tokenIds: [], tokenCount: 0, text: rest };
    while (position < Math.min(limit, natural) && !stopped) {
      await sleep(deps.clock, options.msPerToken, signal);
      if (options.onToken !== undefined) await orAborted(options.onToken(request, position), signal);
      const id = scripted?.[position] ?? biased(tokenAt(key, position), bias);
      const pushed = push(id);
      stopped = pushed.stopped;
      yield { type: "tokens", position, tokenIds: [id], tokenCount: 1, text: pushed.text };
      position += 1;
    }
    const flushed = stop.push(decoder.decode()).text;
    const last = stop.flush();
    const held = fresh(flushed + last.text);
    if (held !== "") yield { type: "tokens", position, tokenIds: [], tokenCount: 0, text: held };
    const finishReason = last.stopped || natural <= limit ? "stop" : "length";
    const decodeMs = Math.round(deps.clock.monotonicMs() - startMs - options.prefillMs);
    const timings = { queueMs, prefillMs: options.prefillMs, decodeMs: Math.max(0, decodeMs) };
    yield { type: "end", finishReason, promptTokens, outputTokens: position, timings };
  }

  /** Its tokens do not depend on each other: each is the right one or cannot be. */
  async function score(claim: ScoreRequest, outer: AbortSignal): Promise<AnswerScores> {
    const { request, tokenIds, isEnded } = claim;
    const signal = AbortSignal.any([outer, closed.signal]);
    throwIfAborted(signal);
    requireReady();
    const used = countTokens(request.prompt) + tokenIds.length;
    if (used > options.contextTokensMax) throw tooLong(used, options.contextTokensMax);
    checkTokenIds(tokenIds, vocabulary.length);
    await sleep(deps.clock, options.prefillMs + options.msPerToken, signal);
    const key = keyOf(request);
    const bias = new Map(request.sampling.logitBias);
    const isRight = tokenIds.map((id, position) => id === biased(tokenAt(key, position), bias));
    const promptTokens = countTokens(request.prompt);
    // It says "stop" even where there was room for nothing more.
    const asked = { ...request, outputTokensMax: null, emitted: { tokenIds: [], text: "" } };
    const facts = { promptTokens, contextTokens: options.contextTokensMax };
    const writer = new AnswerWriter(asked, { ...facts, pieces: (id) => vocabulary[id]! });
    const { text, byModel } = writeAgain(writer, tokenIds, isEnded);
    if (byModel) isRight.push(tokenIds.length === options.answerTokens);
    return {
      text,
      margins: isRight.map((right) => (right ? 0 : Number.POSITIVE_INFINITY)),
      logProbabilities: isRight.map((right) => (right ? 0 : Number.NEGATIVE_INFINITY)),
    };
  }

  async function embed({ inputs, dimensions }: EmbedRequest, outer: AbortSignal): Promise<Embedded> {
    requireReady();
    const count = dimensionsKept(dimensions, naiveDimensions, true);
    const promptTokens = inputs.reduce((sum, input) => sum + countTokens(input), 0);
    for (const input of inputs) checkInputLength(countTokens(input), options.contextTokensMax);
    const signal = AbortSignal.any([outer, closed.signal]);
    const leave = await admission.enter(signal);
    try {
      await sleep(deps.clock, options.prefillMs, signal);
      const vectors = inputs.map((input) => {
        const key = hashText(JSON.stringify(input));
        const values = Array.from({ length: naiveDimensions }, (_, i) => (mix(key, i) % 2_001) - 1_000);
        return vectorBytes(unitVector(values, count));
      });
      return { vectors, promptTokens, durationMs: options.prefillMs };
    } finally {
      leave();
    }
  }

  return {
    kind: "naive",
    model: {
      modelId: options.modelId,
      name: options.name,
      contextTokensMax: options.contextTokensMax,
      parallelMax: options.parallelMax,
      trustTier: "float",
      resumable: true,
      features: options.features ?? ["embeddings", "infill"],
      ...(options.toolFormat === undefined ? {} : { toolFormat: options.toolFormat }),
      ...(options.thoughtFormat === undefined ? {} : { thoughtFormat: options.thoughtFormat }),
    },
    generate,
    async countPromptTokens(prompt, signal) {
      throwIfAborted(signal);
      requireReady();
      return countTokens(prompt);
    },
    score,
    embed,
    status: () => status,
    load: () => admission.load(),
    onStatus(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    become(next) {
      status = next;
      for (const listener of listeners) listener(next);
    },
    async close() {
      const error = new SkeinError("engine_unavailable", "The engine was closed.");
      closed.abort(error);
      admission.refuseAll(error);
    },
  };
}

/** Components of a vector, any number of which may be had. */
const naiveDimensions = 16;

function keyOf({ prompt, sampling }: GenerateRequest): number {
  return hashText(JSON.stringify(prompt)) ^ (sampling.temperature > 0 ? sampling.seed : 0);
}

/** Every fourth token of the hash's choice begins an emoji, whose bytes then follow one by one. */
function tokenAt(key: number, position: number): number {
  for (let back = 0; back < emoji.length; back++) {
    const start = position - back;
    if (start >= 0 && isEmojiStart(key, start)) return emojiStart + back;
  }
  return mix(key, position) % words.length;
}

/** Logit of the token that the hash chose; that of all others is 0. */
const chosenNats = 10;

function biased(chosen: number, bias: ReadonlyMap<number, number>): number {
  const logit = (id: number): number => (id === chosen ? chosenNats : 0) + (bias.get(id) ?? 0);
  return [...vocabulary.keys()].reduce((best, id) => (logit(id) > logit(best) ? id : best), chosen);
}

function isEmojiStart(key: number, position: number): boolean {
  for (let back = 1; back < emoji.length; back++) {
    if (position - back >= 0 && mix(key, position - back) % 7 === 0) return false;
  }
  return mix(key, position) % 7 === 0;
}

function mix(key: number, position: number): number {
  let h = (key ^ Math.imul(position + 1, 0x9e3779b1)) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) >>> 0;
  return (h ^ (h >>> 13)) >>> 0;
}

function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}

/** Four characters a token, and four tokens around each message. */
function countTokens(prompt: Prompt): number {
  switch (prompt.kind) {
    case "tokens":
      return prompt.tokenIds.length;
    case "text":
      return Math.ceil((prompt.text.length + (prompt.suffix ?? "").length) / 4);
    case "chat":
      return chatTexts(prompt).reduce((sum, { length }) => sum + 4 + Math.ceil(length / 4), 0);
  }
}

function tooLong(tokens: number, contextTokensMax: number): SkeinError {
  return new SkeinError(
    "context_length_exceeded",
    `The prompt has ${tokens} tokens, but this model's context is ${contextTokensMax} tokens.`,
    { param: "messages" },
  );
}

/** Waits for something that may never come, but no longer than the signal allows. */
async function orAborted(pending: Promise<void> | void, signal: AbortSignal): Promise<void> {
  if (pending === undefined) return;
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(abortError(signal));
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([pending, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  throwIfAborted(signal);
  if (delayMs === 0) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      cancel();
      reject(abortError(signal));
    };
    const cancel = clock.schedule(delayMs, () => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
