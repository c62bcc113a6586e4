/**
 * Continuous batching over llama.cpp's inner context. Every step evaluates one token of each decoding
 * sequence and fair chunks of the prompts that are still being read, then draws the next tokens.
 */
import type { GenerateEvent } from "../../protocol/generate.ts";
import type { NativeContext } from "./binding.ts";
import type { Sequence } from "./sequence.ts";

/** Tokens of one step. Larger steps prefill faster but make decoding sequences wait longer. */
export const batchTokensMax = 512;

export interface BatchLoopEvents {
  /** Between two steps, when nothing touches the cache: take in new requests. */
  onPause(): Promise<void>;
  /** All events of one step together. */
  onStep(events: (readonly [Sequence, GenerateEvent])[]): void;
  /** A step failed: these sequences are lost, and the cache is in doubt. */
  onFailure(error: unknown, sequences: readonly Sequence[]): void;
}

export class BatchLoop {
  readonly #context: NativeContext;
  readonly #events: BatchLoopEvents;
  readonly #sequences = new Set<Sequence>();
  #running = false;
  #woken = false;

  constructor(context: NativeContext, events: BatchLoopEvents) {
    this.#context = context;
    this.#events = events;
  }

  get sequences(): ReadonlySet<Sequence> {
    return this.#sequences;
  }

  add(sequence: Sequence): void {
    this.#sequences.add(sequence);
  }

  /** Takes effect at the next step. */
  remove(sequence: Sequence): void {
    this.#sequences.delete(sequence);
  }

  /** Something changed: a request waits, or a paused sequence was read. */
  wake(): void {
    this.#woken = true;
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    for (;;) {
      this.#woken = false;
      await this.#events.onPause();
      const active = [...this.#sequences].filter((sequence) => !sequence.paused);
      if (active.length === 0) {
        if (this.#woken) continue;
        break;
      }
      try {
        await this.#step(active);
      } catch (error) {
        for (const sequence of active) this.#sequences.delete(sequence);
        this.#events.onFailure(error, active);
      }
    }
    this.#running = false;
  }

  async #step(active: readonly Sequence[]): Promise<void> {
    const startMs = performance.now();
    const shares = planStep(active);
    // 1. One batch with everybody's share.
    this.#context.initBatch(shares.reduce((sum, { count }) => sum + count, 0));
    const asked = shares.map(({ sequence, count }) => {
      const { slot, tokens, pending } = sequence;
      const start = slot.cells.length;
      const chunk = Uint32Array.from(tokens.slice(start, start + count));
      const wanted = count === pending ? Uint32Array.of(count - 1) : new Uint32Array(0);
      return this.#context.addToBatch(slot.id, start, chunk, wanted)[0];
    });
    await this.#context.decodeBatch();
    for (const { sequence, count } of shares) {
      const start = sequence.slot.cells.length;
      for (let i = start; i < start + count; i++) sequence.slot.cells.push(sequence.tokens[i]!);
    }
    // 2. One draw for everybody whose logits are there.
    const drawing = shares.flatMap(({ sequence }, i) => {
      const index = asked[i];
      return index === undefined || !this.#sequences.has(sequence) ? [] : [{ sequence, index }];
    });
    const drawn = await Promise.all(
      drawing.map(({ sequence, index }) => {
        sequence.sampler.applyConfig(sequence.samplerConfig());
        return this.#context.sampleToken(index, sequence.sampler);
      }),
    );
    // 3. All events of the step at once.
    this.#account(shares, performance.now() - startMs);
    const events = drawing.flatMap(({ sequence }, i) => this.#accept(sequence, drawn[i]!));
    if (events.length > 0) this.#events.onStep(events);
  }

  #accept(sequence: Sequence, tokenId: number): (readonly [Sequence, GenerateEvent])[] {
    if (!this.#sequences.has(sequence)) return [];
    const events = tokenId < 0 ? sequence.finish("stop") : sequence.accept(tokenId);
    sequence.unreadEvents += 1;
    if (events.at(-1)?.type === "end") this.#sequences.delete(sequence);
    return events.map((event) => [sequence, event] as const);
  }

  #account(shares: readonly Share[], stepMs: number): void {
    for (const { sequence, prefill } of shares) {
      if (prefill) sequence.prefillMs += stepMs;
      else sequence.decodeMs += stepMs;
    }
  }
}

interface Share {
  readonly sequence: Sequence;
  readonly count: number;
  readonly prefill: boolean;
}

/** Who evaluates how many tokens: decoding sequences one each, the rest is shared out evenly. */
export function planStep(active: readonly Sequence[]): Share[] {
  const decoding = active.filter((sequence) => sequence.pending === 1);
  const reading = active.filter((sequence) => sequence.pending > 1).toSorted((a, b) => a.pending - b.pending);
  const shares: Share[] = decoding
    .slice(0, batchTokensMax)
    .map((sequence) => ({ sequence, count: 1, prefill: sequence.outputTokens === 0 }));
  let left = batchTokensMax - shares.length;
  reading.forEach((sequence, i) => {
    // Shortest first: what it does not need goes to the longer ones.
    const count = Math.min(sequence.pending, Math.floor(left / (reading.length - i)));
    left -= count;
    if (count > 0) shares.push({ sequence, count, prefill: true });
  });
  return shares;
}
