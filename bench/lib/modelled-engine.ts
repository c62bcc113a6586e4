/**
 * An engine whose times come from a model of a machine, for simulations of many of them: prompts are read one after
 * another, less what the KV cache holds; answers are written side by side, each slower the more there are.
 */
import { Admission } from "../../src/engine/admission.ts";
import type { Engine } from "../../src/engine/port.ts";
import type { GenerateEvent, GenerateRequest } from "../../src/protocol/generate.ts";
import { abortError, throwIfAborted } from "../../src/util/abort.ts";
import type { Clock } from "../../src/util/clock.ts";
import { SkeinError } from "../../src/util/errors.ts";
import type { Random } from "../../src/util/random.ts";
import { traceBlockTokens } from "./trace.ts";

export const modelId = "modelled:1";
export const modelName = "modelled";

/** The truth about a machine, which no router sees. */
export interface Machine {
  readonly slots: number;
  readonly prefillMsPerToken: number;
  /** Time per token of an answer that is alone. */
  readonly tpotMs: number;
  readonly roundTripMs: number;
  /** Tokens that its KV cache keeps after an answer; the longest unused are forgotten first. */
  readonly cacheTokens: number;
}

/** What machines have spent, in milliseconds of a whole one. */
export interface Spent {
  allMs: number;
  /** On attempts that the gateway gave up: another one was faster. */
  abandonedMs: number;
}

export const contextTokensMax: number = 160 * 1024;
/** What each further answer costs the others: decoding is bound by memory, which they share. */
const crowding = 0.05;
/** Times differ by chance by up to this share. */
const noise = 0.2;
/** Tokens of one event after the first: few enough to show the pace, so many that a trace runs in minutes. */
const eventTokens = 16;
const queueLengthMax = 1_000;

/** Ten times between the fastest and the slowest, like the hardware of volunteers. */
export function anyMachine(random: Random): Machine {
  const slowness = 1 + 9 * random.next() ** 2;
  return {
    slots: 4 + Math.floor(random.next() * 13),
    prefillMsPerToken: 0.02 * slowness,
    tpotMs: 8 * slowness,
    roundTripMs: 2 + 200 * random.next() ** 2,
    cacheTokens: 100_000 + Math.floor(random.next() * 900_000),
  };
}

/** Milliseconds of the whole machine that a request takes: its turn of prefill, its share of decoding. */
export function demandMs(machine: Machine, promptTokens: number, outputTokens: number): number {
  const tpotMs = machine.tpotMs * (1 + crowding * (machine.slots - 1));
  return promptTokens * machine.prefillMsPerToken + (outputTokens * tpotMs) / machine.slots;
}

export function createModelledEngine(
  deps: { readonly clock: Clock; readonly random: Random },
  machine: Machine,
  spent: Spent = { allMs: 0, abandonedMs: 0 },
): Engine {
  const { clock, random } = deps;
  const admission = new Admission(machine.slots, queueLengthMax);
  const cache = new BlockCache(Math.floor(machine.cacheTokens / traceBlockTokens));
  const closed = new AbortController();
  /** When the prompts that came so far are read. */
  let prefilledAtMs = 0;
  const noisy = (ms: number): number => ms * (1 - noise + 2 * noise * random.next());

  async function* generate(request: GenerateRequest, outer: AbortSignal): AsyncGenerator<GenerateEvent> {
    const signal = AbortSignal.any([outer, closed.signal]);
    const askedMs = clock.monotonicMs();
    const leave = await admission.enter(signal);
    const work = { ms: 0 };
    try {
      yield* answer(request, clock.monotonicMs() - askedMs, signal, work);
    } finally {
      leave();
      spent.allMs += work.ms;
      if (outer.aborted && !closed.signal.aborted) spent.abandonedMs += work.ms;
    }
  }

  async function* answer(
    { prompt, emitted, outputTokensMax }: GenerateRequest,
    queueMs: number,
    signal: AbortSignal,
    work: { ms: number },
  ): AsyncGenerator<GenerateEvent> {
    const tokenIds = prompt.kind === "tokens" ? prompt.tokenIds : [];
    const promptTokens = Math.max(1, tokenIds.length);
    const keys = blockKeys(tokenIds);
    const cachedTokens = Math.min(cache.take(keys) * traceBlockTokens, promptTokens - 1);
    yield { type: "start", promptTokens, cachedTokens };
    let position = emitted.tokenIds.length;
    const prefillMs = noisy((promptTokens + position - cachedTokens) * machine.prefillMsPerToken);
    const startMs = clock.monotonicMs();
    prefilledAtMs = Math.max(prefilledAtMs, startMs) + prefillMs;
    work.ms += prefillMs;
    await sleep(clock, prefilledAtMs - startMs, signal);
    cache.put(keys);
    const end = outputTokensMax ?? position + 1;
    for (let count = 1; position < end; count = Math.min(eventTokens, end - position)) {
      const { active } = admission.load();
      const tpotMs = machine.tpotMs * (1 + crowding * (active - 1));
      const decodeMs = count * noisy(tpotMs);
      work.ms += decodeMs / active;
      await sleep(clock, decodeMs, signal);
      const ids = Array.from({ length: count }, (_, i) => position + i);
      yield { type: "tokens", position, tokenIds: ids, tokenCount: count, text: "x".repeat(count) };
      position += count;
    }
    const decodeMs = Math.max(0, clock.monotonicMs() - startMs - prefillMs);
    const timings = { queueMs, prefillMs, decodeMs };
    yield { type: "end", finishReason: "length", promptTokens, outputTokens: position, timings };
  }

  return {
    kind: "naive",
    model: {
      modelId,
      name: modelName,
      contextTokensMax,
      parallelMax: machine.slots,
      trustTier: "float",
      resumable: true,
      features: [],
    },
    generate,
    countPromptTokens: async (prompt) => (prompt.kind === "tokens" ? prompt.tokenIds.length : 1),
    status: () => ({ state: "ready" }),
    load: () => admission.load(),
    onStatus: () => () => undefined,
    async close() {
      const error = new SkeinError("engine_unavailable", "The engine was closed.");
      closed.abort(error);
      admission.refuseAll(error);
    },
  };
}

/** One key per whole block, each with all blocks before it. */
function blockKeys(tokenIds: readonly number[]): number[] {
  const keys: number[] = [];
  let [high, low] = [0x811c9dc5, 0x9e3779b1];
  for (let i = 0; i < tokenIds.length; i++) {
    high = Math.imul(high ^ tokenIds[i]!, 0x01000193);
    low = Math.imul(low ^ tokenIds[i]!, 0x85ebca6b);
    if ((i + 1) % traceBlockTokens === 0) keys.push((high >>> 0) * 2 ** 20 + (low >>> 12));
  }
  return keys;
}

/** Blocks of prompts that a KV cache holds, the longest unused first. */
class BlockCache {
  readonly #blocksMax: number;
  readonly #blocks = new Set<number>();

  constructor(blocksMax: number) {
    this.#blocksMax = blocksMax;
  }

  /** How many of the first blocks are there; they count as used. */
  take(keys: readonly number[]): number {
    const missing = keys.findIndex((key) => !this.#blocks.has(key));
    const found = missing < 0 ? keys.length : missing;
    this.put(keys.slice(0, found));
    return found;
  }

  put(keys: readonly number[]): void {
    // The end of a prompt is of use only with its beginning: it is forgotten first.
    for (const key of keys.toReversed()) {
      this.#blocks.delete(key);
      this.#blocks.add(key);
    }
    while (this.#blocks.size > this.#blocksMax) this.#blocks.delete(this.#blocks.values().next().value!);
  }
}

function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  throwIfAborted(signal);
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
