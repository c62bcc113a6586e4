/** The child's logic over a fake of llama.cpp: what cannot be provoked with a real model. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ask } from "../asking.suite.ts";
import type { AnswerScores } from "../port.ts";
import type { GenerateEvent } from "../../protocol/generate.ts";
import type { NativeContext, NativeModel } from "./binding.ts";
import type { LoadedModel } from "./load.ts";
import type { ToParent } from "./messages.ts";
import { Service } from "./service.ts";

const contextTokens = 64;

/** Counts up: the token after n is n + 1. Checks what llama.cpp would check. */
class FakeContext implements NativeContext {
  readonly cells = new Map<number, number[]>();
  readonly batches: (readonly [sequence: number, position: number, count: number])[][] = [];
  failing = 0;
  removable = true;
  #batch: { sequence: number; position: number; token: number }[] = [];

  initBatch(): void {
    this.#batch = [];
    this.batches.push([]);
  }

  addToBatch(sequence: number, position: number, tokens: Uint32Array, logits: Uint32Array): Uint32Array {
    this.batches.at(-1)!.push([sequence, position, tokens.length]);
    const first = this.#batch.length;
    tokens.forEach((token, i) => this.#batch.push({ sequence, position: position + i, token }));
    return logits.map((index) => first + index);
  }

  async decodeBatch(): Promise<void> {
    await sleep(0);
    if (this.failing-- > 0) throw new Error("decode failed");
    for (const { sequence, position, token } of this.#batch) {
      const cells = this.#of(sequence);
      assert.equal(position, cells.length, `sequence ${sequence} continues where its cells end`);
      assert.ok(position < contextTokens);
      cells.push(token);
    }
  }

  sampleToken(index: number): Promise<number>;
  sampleToken(index: number, ...revealing: readonly unknown[]): Promise<number | readonly unknown[]> {
    const next = this.#batch[index]!.token + 1;
    return Promise.resolve(revealing.length > 1 ? [next, null, null, [next, 2, next + 1, -1]] : next);
  }

  disposeSequence(sequence: number): void {
    this.cells.delete(sequence);
  }

  removeTokenCellsFromSequence(sequence: number, start: number): boolean {
    if (this.removable) this.#of(sequence).length = start;
    return this.removable;
  }

  getSequenceKvCacheMinPosition(): number {
    return 0;
  }

  copySequenceStateFromOtherSequence(target: number, source: number): Promise<number> {
    this.cells.set(target, [...this.#of(source)]);
    return Promise.resolve(0);
  }

  #of(sequence: number): number[] {
    const known = this.cells.get(sequence) ?? [];
    this.cells.set(sequence, known);
    return known;
  }
}

function startService(parallel: number): {
  context: FakeContext;
  service: Service;
  run: (first: number, tokens: number) => Promise<readonly GenerateEvent[]>;
  /** Scores what is claimed to follow `first` and the two after it. */
  score: (first: number, claimed: readonly number[], onAsked?: (id: number) => void) => Promise<AnswerScores>;
} {
  const context = new FakeContext();
  const model = {
    isEogToken: () => false,
    shouldPrependBosToken: () => false,
    tokenBos: () => 0,
  } as Partial<NativeModel> as NativeModel;
  class Sampler {
    applyConfig(): void {}
    dispose(): void {}
  }
  const loaded = {
    info: { chatTemplate: null, vocabularySize: 10_000 },
    llama: { _bindings: { AddonSampler: Sampler } },
    model: { _model: model },
    context,
    pieces: () => new Uint8Array([0x78]),
    contextTokens,
    backend: "fake",
  } as unknown as LoadedModel;
  const answers = new Map<number, { events: GenerateEvent[]; settle: (error?: string) => void }>();
  const scoring = new Map<number, PromiseWithResolvers<AnswerScores>>();
  const send = (message: ToParent): void => {
    if (message.type === "scored") scoring.get(message.id)?.resolve(message.scores);
    if (message.type === "failed") {
      answers.get(message.id)?.settle(message.error.code);
      scoring.get(message.id)?.reject(new Error(message.error.code));
    }
    if (message.type !== "step") return;
    for (const [id, event] of message.events) {
      answers.get(id)?.events.push(event);
      if (event.type === "end") answers.get(id)?.settle();
    }
  };
  const service = new Service(loaded, parallel, send);
  let nextId = 0;
  const run = (first: number, tokens: number): Promise<readonly GenerateEvent[]> => {
    const id = nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<readonly GenerateEvent[]>();
    const events: GenerateEvent[] = [];
    answers.set(id, {
      events,
      settle: (error) => (error === undefined ? resolve(events) : reject(new Error(error))),
    });
    const prompt = { kind: "tokens", tokenIds: [first, first + 1, first + 2] } as const;
    service.generate(id, ask("", { prompt, outputTokensMax: tokens }));
    return promise;
  };
  const score = (
    first: number,
    tokenIds: readonly number[],
    onAsked: (id: number) => void = () => undefined,
  ): Promise<AnswerScores> => {
    const id = nextId++;
    const answer = Promise.withResolvers<AnswerScores>();
    scoring.set(id, answer);
    const prompt = { kind: "tokens", tokenIds: [first, first + 1, first + 2] } as const;
    service.score(id, { request: ask("", { prompt }), tokenIds, isEnded: false, chunkTokens: 4 });
    onAsked(id);
    return answer.promise;
  };
  return { context, service, run, score };
}

function tokenIdsOf(events: readonly GenerateEvent[]): number[] {
  return events.flatMap((event) => (event.type === "tokens" ? event.tokenIds : []));
}

test("a failed step fails its requests, empties the cache, and the next request works", async () => {
  const { context, run } = startService(2);
  await run(100, 3);
  context.failing = 1;
  const results = await Promise.allSettled([run(100, 5), run(200, 5)]);
  for (const result of results)
    assert.match(String((result as PromiseRejectedResult).reason), /engine_failed/);
  assert.deepEqual(tokenIdsOf(await run(100, 3)), [103, 104, 105]);
  assert.deepEqual(context.cells.get(0)?.slice(0, 3), [100, 101, 102]);
});

test("idle slots between busy ones are bridged and keep what they cache", async () => {
  const { context, run } = startService(3);
  const [first, , third] = await Promise.all([run(100, 30), run(200, 4), run(300, 30)]);
  assert.equal(tokenIdsOf(first).at(-1), 132);
  assert.equal(tokenIdsOf(third).at(-1), 332);
  assert.ok(context.batches.some((batch) => batch.length === 3 && batch[1]![2] === 1 && batch[1]![1] === 6));
  assert.deepEqual(context.cells.get(1), [200, 201, 202, 203, 204, 205]);
  const events = await run(200, 4);
  assert.equal(events[0]?.type === "start" ? events[0].cachedTokens : 0, 2);
});

test("where cells cannot be taken off, slots are not bridged and prefixes not reused", async () => {
  const { context, run } = startService(3);
  context.removable = false;
  await Promise.all([run(100, 30), run(200, 4), run(300, 30)]);
  assert.deepEqual(tokenIdsOf(await run(200, 4)), [203, 204, 205, 206]);
});

test("the context's end is reached exactly", async () => {
  const { run } = startService(1);
  const events = await run(100, 1000);
  assert.equal(tokenIdsOf(events).length, contextTokens - 3);
  assert.equal(
    events.at(-1)?.type === "end" ? (events.at(-1) as { finishReason: string }).finishReason : "",
    "length",
  );
});

test("answers are scored between the steps of others, in a slot that is empty before and after", async () => {
  const { context, run, score } = startService(2);
  const [answer, scores] = await Promise.all([run(100, 40), score(500, [503, 504, 506, 507, 700, 701, 702])]);
  assert.equal(tokenIdsOf(answer).at(-1), 142);
  // The fake allows the next number and the one after it, three nats less likely.
  assert.deepEqual(scores.margins, [0, 0, 3, 0, Number.POSITIVE_INFINITY, 0, 0]);
  assert.equal(scores.logProbabilities[4], Number.NEGATIVE_INFINITY);
  assert.ok(Math.abs(scores.logProbabilities[0]! - Math.log(1 / (1 + Math.exp(-3)))) < 1e-12);
  assert.deepEqual(
    [...context.cells.values()].map((cells) => cells[0]),
    [100],
  );
  // Where all slots are taken, it waits for one.
  const [, late] = await Promise.all([run(100, 20), score(500, [503]), run(200, 5)]);
  assert.deepEqual(late.margins, [0]);
});

test("a score can be cancelled while it waits and while it runs, and fails with the cache", async () => {
  const { context, service, run, score } = startService(1);
  const running = run(100, 30);
  await assert.rejects(
    score(500, [503], (id) => service.cancel(id)),
    /cancelled/,
  );
  const claimed = Array.from({ length: 40 }, (_, i) => 503 + i);
  let scoring = -1;
  const cancelled = assert.rejects(
    score(500, claimed, (id) => (scoring = id)),
    /cancelled/,
  );
  await running;
  while (context.batches.at(-1)?.[0]?.[2] !== 4) await sleep(0);
  service.cancel(scoring);
  await cancelled;
  context.failing = 1;
  await assert.rejects(score(500, claimed), /engine_failed/);
  assert.deepEqual((await score(500, [503, 504])).margins, [0, 0]);
});
