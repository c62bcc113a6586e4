/** Whatever comes, goes, waits and is preempted: each answer is the one it would be alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { PagedExecutor } from "../../exact/executor.ts";
import { diceOfSeed } from "../../exact/random-model.suite.ts";
import type { DraftSource } from "../../exact/drafts/draft-source.ts";
import { ModelDrafts } from "../../exact/drafts/model-drafts.ts";
import { PromptLookup } from "../../exact/drafts/prompt-lookup.ts";
import { BatchLoop, type BatchLoopEvents, type StepEvents } from "./batch-loop.ts";
import {
  answerAlone,
  contextTokens,
  draftExecutor,
  knownDrafts,
  randomDrafts,
  randomRequest,
  requestOf,
  sequenceOf,
  smallExecutor,
  Watch,
} from "./batching.suite.ts";
import { runDisturbed } from "./disturbed.suite.ts";
import type { Sequence } from "./sequence.ts";
import { Speculation } from "./speculation.ts";

/** Runs until every one of `sequences` has ended; `onStep` may disturb. */
function runAll(
  executor: PagedExecutor,
  sequences: readonly Sequence[],
  onStep: (loop: BatchLoop, events: StepEvents) => void = () => undefined,
  speculation: Speculation | null = null,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const open = new Set(sequences);
    const loopEvents: BatchLoopEvents = {
      onStep(events) {
        try {
          for (const [sequence, event] of events) if (event.type === "end") open.delete(sequence);
          onStep(loop, events);
          if (open.size === 0) resolve();
        } catch (error) {
          reject(error);
        }
      },
      onFailure: reject,
    };
    const loop = new BatchLoop(executor, loopEvents, speculation);
    for (const sequence of sequences) loop.add(sequence);
  });
}

function outputOf(sequence: Sequence): number[] {
  return sequence.tokens.slice(sequence.promptLength);
}

interface Plan {
  readonly seed: number;
  readonly requests: number;
  readonly pages: number;
  readonly rowsMax: number;
  readonly drafts: "none" | "lookup" | "model" | "bad" | "good" | "adaptive";
  readonly draftCount: number;
}

/** Requests that come between steps, some of which are cancelled or not read for a while. */
async function runSchedule({ seed, requests, pages, rowsMax, drafts, draftCount }: Plan): Promise<void> {
  const dice = diceOfSeed(seed);
  const watch = new Watch();
  const plain = watch.over(await smallExecutor(32 * 8));
  const asked = Array.from({ length: requests }, () => {
    const request = randomRequest(dice);
    const answer = answerAlone(plain, request);
    const tokenIds = answer.slice(0, dice.chance(0.3) ? dice.whole(0, answer.length) : 0);
    const rest = { ...request, emitted: { tokenIds, text: "" } };
    return { answer, sequence: sequenceOf(rest), isOver: tokenIds.length === answer.length };
  }).filter(({ isOver }) => !isOver);
  if (asked.length === 0) return;
  const executor = watch.over(await smallExecutor(32 * pages, rowsMax));
  const known = asked.map(({ answer, sequence }) => [
    ...sequence.tokens.slice(0, sequence.promptLength),
    ...answer,
  ]);
  const sources: Record<Plan["drafts"], () => Promise<DraftSource[]>> = {
    none: async () => [],
    lookup: async () => [new PromptLookup()],
    model: async () => [new ModelDrafts(await draftExecutor(32 * 6), executor.shape.vocabularySize)],
    bad: async () => [randomDrafts(dice)],
    good: async () => [knownDrafts(known, dice)],
    adaptive: async () => [new PromptLookup(), knownDrafts(known, dice), randomDrafts(dice)],
  };
  const speculation = new Speculation(await sources[drafts](), drafts === "adaptive" ? null : draftCount);
  const sequences = asked.map(({ sequence }) => sequence);
  const cancelled = await runDisturbed(executor, speculation, sequences, dice);
  for (const { answer, sequence } of asked) {
    const own = outputOf(sequence);
    const wasCancelled = cancelled.has(sequence);
    assert.deepEqual(own, wasCancelled ? answer.slice(0, own.length) : answer);
  }
}

test("answers and leaves are those of the lone run, whatever comes, goes and runs out", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        seed: fc.integer(),
        requests: fc.integer({ min: 1, max: 12 }),
        pages: fc.integer({ min: 4, max: 12 }),
        rowsMax: fc.constantFrom(13, 20, 64),
        drafts: fc.constantFrom("none", "lookup", "model", "bad", "good", "adaptive"),
        draftCount: fc.integer({ min: 1, max: 9 }),
      }),
      runSchedule,
    ),
    { numRuns: 20 },
  );
});

test("who begins alike is evaluated once, among those who have the same salt", async () => {
  const prompt = Array.from({ length: 100 }, (_, i) => 1 + (i % 17));
  const rowsFor = async (salts: readonly string[]): Promise<number> => {
    const watch = new Watch();
    const sequences = salts.map((cacheSalt, seed) =>
      sequenceOf(requestOf(prompt, 1, { temperature: 1, seed }, { cacheSalt })),
    );
    await runAll(watch.over(await smallExecutor(32 * 32)), sequences);
    return watch.rows;
  };
  // Of those that run whole pages are shared: of the last one each may evaluate its own four positions.
  assert.ok((await rowsFor(["a", "a", "a", "a"])) <= 100 + 3 * 4);
  assert.equal(await rowsFor(["a", "b"]), 200);
});

test("the leader's end, at whatever moment, does not hold up its followers", async () => {
  const prompt = Array.from({ length: 110 }, (_, i) => 1 + (i % 19));
  for (let steps = 0; steps < 12; steps++) {
    const sequences = [0, 1, 2].map((seed) => sequenceOf(requestOf(prompt, 2, { seed })));
    let left = steps;
    const executor = await smallExecutor(32 * 16, 16);
    const [first, ...others] = sequences;
    await new Promise<void>((resolve, reject) => {
      const open = new Set(others);
      const loopEvents: BatchLoopEvents = {
        onStep(events) {
          if (left-- === 0) loop.remove(first!);
          for (const [sequence, event] of events) if (event.type === "end") open.delete(sequence);
          if (open.size === 0) resolve();
        },
        onFailure: reject,
      };
      const loop = new BatchLoop(executor, loopEvents, null);
      for (const sequence of sequences) loop.add(sequence);
    });
    for (const other of others) assert.deepEqual(outputOf(other).length, 2);
  }
});

test("memory for one context serves any number of requests, each preempted once at most", async () => {
  const watch = new Watch();
  const executor = watch.over(await smallExecutor(contextTokens));
  const requests = Array.from({ length: 6 }, (_, i) =>
    requestOf([1 + i, 2, 3], 100, { temperature: 5, seed: i }),
  );
  const answers = requests.map((request) => answerAlone(executor, request));
  const alone = watch.rows;
  const sequences = requests.map((request) => sequenceOf(request));
  await runAll(executor, sequences);
  assert.deepEqual(sequences.map(outputOf), answers);
  assert.ok(sequences.some(({ wasPreempted }) => wasPreempted));
  assert.ok(watch.rows - alone <= 2 * alone, "nothing is evaluated more than twice");
});

test("a long prompt holds up nobody who decodes", async () => {
  const watch = new Watch();
  const executor = watch.over(await smallExecutor(32 * 32, 20));
  const decoding = [1, 2, 3].map((first) =>
    sequenceOf(requestOf([first, 5], 40, { temperature: 5, seed: 9 })),
  );
  const long = [1, 2].map((last) =>
    sequenceOf(requestOf([...Array.from({ length: 100 }, (_, i) => 1 + ((last * i) % 13)), last], 3)),
  );
  let added = false;
  await runAll(executor, [...decoding, ...long.slice(0, 1)], (loop, events) => {
    if (!added) loop.add(long[1]!);
    added = true;
    // Whoever decodes has its token in every step.
    const served = new Set(events.map(([sequence]) => sequence));
    const running = decoding.filter(({ context, servedAt }) => context !== null && servedAt > 1);
    for (const sequence of running) assert.ok(served.has(sequence));
  });
  assert.ok(Math.max(...watch.steps) <= 20);
});

test("a request that has ended serves as the beginning of the next turn, and is forgotten when memory is needed", async () => {
  const watch = new Watch();
  const executor = watch.over(await smallExecutor(32 * 4));
  const first = sequenceOf(requestOf([1, 2, 3, 4, 5], 50, { temperature: 5, seed: 3 }));
  const next = (): Sequence => sequenceOf(requestOf([...first.tokens, 7, 8], 1));
  let turn: Sequence | null = null;
  await new Promise<void>((resolve, reject) => {
    const later: (() => Sequence)[] = [
      () => (turn = next()),
      () =>
        sequenceOf(
          requestOf(
            Array.from({ length: 110 }, (_, i) => 2 + (i % 5)),
            1,
          ),
        ),
      next,
    ];
    const cached: number[] = [];
    let current = first;
    const loopEvents: BatchLoopEvents = {
      onStep(events) {
        if (events.at(-1)?.[1].type !== "end") return;
        cached.push(current.cachedTokens);
        const following = later.shift();
        if (following !== undefined) {
          current = following();
          loop.add(current);
          return;
        }
        try {
          const evaluated = first.tokens.length - 1;
          assert.equal(cached[0], 0);
          assert.ok(cached[1]! >= evaluated && evaluated > 5, cached.join());
          assert.ok(cached[3]! < evaluated, cached.join());
          resolve();
        } catch (error) {
          reject(error);
        }
      },
      onFailure: reject,
    };
    const loop = new BatchLoop(executor, loopEvents, null);
    loop.add(first);
  });
  assert.notEqual(turn, null);
});

test("what is guessed right is not evaluated one by one, at any temperature; what is guessed wrong is forgotten", async () => {
  for (const temperature of [0, 1, 5]) {
    const executor = await smallExecutor(32 * 8);
    const request = requestOf([3, 4, 5], 60, { temperature, seed: 1, frequencyPenalty: 1 });
    const answer = answerAlone(executor, request);
    const stepsWith = async (source: DraftSource): Promise<number> => {
      const watch = new Watch();
      const sequence = sequenceOf(request);
      await runAll(watch.over(executor), [sequence], undefined, new Speculation([source], 5));
      assert.deepEqual(outputOf(sequence), answer);
      return watch.steps.length;
    };
    const right = knownDrafts([[3, 4, 5, ...answer]], null);
    // A model of the same weights guesses everything right, whatever the temperature.
    const twin = new ModelDrafts(await smallExecutor(32 * 8), executor.shape.vocabularySize);
    const least = Math.ceil(answer.length / 6);
    for (const source of [right, twin]) assert.ok((await stepsWith(source)) <= least + 2);
    assert.ok((await stepsWith(randomDrafts(diceOfSeed(1)))) > least);
  }
});
