/** Receipts, constraints and log probabilities of a crowded batch, with shared beginnings and guesses: those of lone runs. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import fc from "fast-check";
import { hashBytes, merkleRoot } from "../../exact/commitment/commitment.ts";
import { PromptLookup } from "../../exact/drafts/prompt-lookup.ts";
import { type Dice, diceOfSeed } from "../../exact/random-model.suite.ts";
import type { GenerateEvent, GenerateRequest, Terms } from "../../protocol/generate.ts";
import { freePriceSheet } from "../../protocol/price.ts";
import { concatBytes, toHex } from "../../util/bytes.ts";
import { sha256 } from "../sha256.ts";
import { BatchLoop, type StepEvents } from "./batch-loop.ts";
import {
  contextTokens,
  knownDrafts,
  randomDrafts,
  randomRequest,
  requestOf,
  runAlone,
  sequenceOf,
  smallExecutor,
  smallMasks,
} from "./batching.suite.ts";
import { runDisturbed } from "./disturbed.suite.ts";
import type { Sequence } from "./sequence.ts";
import { Speculation } from "./speculation.ts";

const terms: Terms = {
  tier: "exact",
  price: freePriceSheet,
  contextTokensMax: contextTokens,
  chargesPrompt: true,
  previous: null,
};

/** One that may end at any second token, one whose end may be forced, and none. */
const grammars = ["root ::= ([a-h] [i-w])+", 'root ::= [a-f]+ "g"', null, null];
const masks = smallMasks();
after(() => masks.close());

const openMask = (grammar: string | null, tokenIds: readonly number[] = []) =>
  grammar === null ? null : masks.open(grammar, tokenIds);

/** A request, what it gives alone, and how far an earlier attempt came with it. */
async function randomCase(dice: Dice) {
  const grammar = dice.pick(grammars);
  const asked: GenerateRequest = {
    ...randomRequest(dice),
    logprobs: dice.pick([null, 0, 2]),
    ...(dice.chance(0.7) ? { terms } : {}),
  };
  const alone = runAlone(await smallExecutor(contextTokens), asked, await openMask(grammar));
  const { answer, recorder } = alone;
  const emitted = answer.slice(0, dice.chance(0.3) ? dice.whole(0, answer.length) : 0);
  if (emitted.length === answer.length) emitted.pop();
  const leavesAt = dice.chance(0.5) ? dice.whole(0, recorder.rows.length - 1) : null;
  const request = {
    ...asked,
    emitted: { tokenIds: emitted, text: "" },
    ...(leavesAt === null ? {} : { leavesAt }),
  };
  const sequence = sequenceOf(request, await openMask(grammar, emitted));
  return { request, sequence, alone, leavesAt };
}

type Case = Awaited<ReturnType<typeof randomCase>>;

function checkCase({ request, sequence, alone, leavesAt }: Case, events: readonly GenerateEvent[]): void {
  const isWhole = events.at(-1)?.type === "end";
  // 1. Tokens, and what was reported of each.
  const drawn = drawnIn(events);
  const wanted = drawnIn(alone.events).slice(request.emitted.tokenIds.length);
  assert.deepEqual(drawn, isWhole ? wanted : wanted.slice(0, drawn.length));
  // 2. Rows of all positions, each once and in order; the root over them.
  const rows = concatBytes(events.flatMap((event) => rowsOf(event).rows ?? []));
  const leaves = events.flatMap((event) => rowsOf(event).leaves ?? []);
  if (request.terms === undefined) {
    assert.equal(rows.length + leaves.length, 0);
    return;
  }
  const known = alone.recorder.rows;
  const count = rows.length / hashBytes;
  if (isWhole) assert.equal(count, known.length);
  assert.equal(toHex(rows), toHex(concatBytes(known.slice(0, count))));
  if (isWhole) {
    const told = Array.from({ length: count }, (_, i) => rows.subarray(hashBytes * i, hashBytes * (i + 1)));
    assert.equal(toHex(merkleRoot(sha256, told)), toHex(alone.recorder.execRoot()));
  }
  // 3. Leaves of the one position that was asked for.
  const isTold = leavesAt !== null && leavesAt < count;
  assert.equal(leaves.length, isTold ? 1 : 0);
  if (isTold) assert.equal(toHex(leaves[0]!), toHex(concatBytes(alone.recorder.leaves[leavesAt]!)));
  assert.ok(sequence.promptLength <= known.length);
}

function drawnIn(events: readonly GenerateEvent[]) {
  return events.flatMap((event) =>
    event.type === "tokens" && event.tokenCount > 0
      ? [{ position: event.position, tokenIds: event.tokenIds, logprobs: event.logprobs }]
      : [],
  );
}

function rowsOf(event: GenerateEvent): { readonly rows?: Uint8Array; readonly leaves?: Uint8Array } {
  return event.type === "tokens" || event.type === "end" ? event : {};
}

interface Plan {
  readonly seed: number;
  readonly requests: number;
  readonly pages: number;
  readonly rowsMax: number;
  readonly draftCount: number | null;
}

async function runSchedule({ seed, requests, pages, rowsMax, draftCount }: Plan): Promise<void> {
  const dice = diceOfSeed(seed);
  const cases: Case[] = [];
  while (cases.length < requests) cases.push(await randomCase(dice));
  const known = cases.map(({ sequence, alone }) => [
    ...sequence.tokens.slice(0, sequence.promptLength),
    ...alone.answer,
  ]);
  const sources = [new PromptLookup(), knownDrafts(known, dice), randomDrafts(dice)];
  const events = new Map<Sequence, GenerateEvent[]>(cases.map(({ sequence }) => [sequence, []]));
  const cancelled = await runDisturbed(
    await smallExecutor(32 * pages, rowsMax),
    new Speculation(sources, draftCount),
    cases.map(({ sequence }) => sequence),
    dice,
    (step) => {
      for (const [sequence, event] of step) events.get(sequence)!.push(event);
    },
  );
  for (const one of cases) {
    const own = events.get(one.sequence)!;
    one.sequence.mask?.close();
    checkCase(one, own);
    assert.ok(cancelled.has(one.sequence) || own.at(-1)?.type === "end");
  }
}

test("answers, log probabilities and execution roots are those of the lone run, whatever comes, goes and runs out", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        seed: fc.integer(),
        requests: fc.integer({ min: 1, max: 10 }),
        pages: fc.integer({ min: 4, max: 12 }),
        rowsMax: fc.constantFrom(13, 20, 64),
        draftCount: fc.constantFrom(null, 1, 3, 9),
      }),
      runSchedule,
    ),
    { numRuns: 15 },
  );
});

/** Adds these together, once those before have ended. */
async function runInTurn(turns: readonly (readonly GenerateRequest[])[]): Promise<Sequence[]> {
  const executor = await smallExecutor(32 * 32, 16);
  const left = [...turns];
  const all: Sequence[] = [];
  return new Promise((resolve, reject) => {
    const open = new Set<Sequence>();
    const onStep = (events: StepEvents): void => {
      for (const [sequence, event] of events) if (event.type === "end") open.delete(sequence);
      if (open.size === 0) next();
    };
    const next = (): void => {
      const requests = left.shift();
      if (requests === undefined) return resolve(all);
      for (const request of requests) {
        const sequence = sequenceOf(request);
        all.push(sequence);
        open.add(sequence);
        loop.add(sequence);
      }
    };
    const loop = new BatchLoop(executor, { onStep, onFailure: reject }, null);
    next();
  });
}

test("positions are shared with a request that wants a receipt as far as their row hashes are known", async () => {
  const prompt = Array.from({ length: 70 }, (_, i) => 1 + (i % 17));
  const plain = requestOf(prompt, 1);
  const signed = { ...plain, terms };
  const turns = [[plain], [plain], [signed], [signed], [plain], [{ ...signed, leavesAt: 20 }], [signed]];
  const inTurn = await runInTurn(turns);
  assert.deepEqual(
    inTurn.map(({ cachedTokens }) => cachedTokens),
    [0, 69, 0, 69, 69, 20, 69],
  );
  // A longer one without receipt takes the place of the signed one, and its row hashes.
  const together = await runInTurn([[{ ...plain, outputTokensMax: 10 }, signed], [signed]]);
  assert.ok(together[0]!.tokens.length > together[1]!.tokens.length);
  assert.equal(together[2]!.cachedTokens, 69);
});

test("who wants a receipt does not wait for others' positions that it cannot take", async () => {
  const prompt = Array.from({ length: 100 }, (_, i) => 1 + (i % 19));
  const plain = requestOf(prompt, 1);
  const signed = { ...plain, terms };
  const waits = async (requests: readonly GenerateRequest[]): Promise<boolean> => {
    const [first, second] = requests.map((request) => sequenceOf(request));
    const executor = await smallExecutor(32 * 16, 16);
    return new Promise((resolve, reject) => {
      const onStep = (): void => resolve(second!.leader !== null);
      const loop = new BatchLoop(executor, { onStep, onFailure: reject }, null);
      loop.add(first!);
      loop.add(second!);
    });
  };
  assert.equal(await waits([signed, signed]), true);
  assert.equal(await waits([plain, signed]), false);
  assert.equal(await waits([signed, { ...signed, leavesAt: 20 }]), false);
});

test("a constraint that cannot be watched over any more ends its own request only", async () => {
  const own = smallMasks();
  const request = requestOf([1, 2, 3], 20, { temperature: 5, seed: 4 });
  const executor = await smallExecutor(32 * 16);
  const { answer } = runAlone(executor, request, null);
  const constrained = sequenceOf(request, await own.open("root ::= [a-w]+", []));
  const free = sequenceOf(request);
  const lost: Sequence[] = [];
  await new Promise<void>((resolve) => {
    const loop = new BatchLoop(
      executor,
      {
        onStep(events) {
          own.close();
          if (events.some(([sequence, { type }]) => sequence === free && type === "end")) resolve();
        },
        onFailure: (_, sequences) => lost.push(...sequences),
      },
      new Speculation([new PromptLookup()], 3),
    );
    loop.add(constrained);
    loop.add(free);
  });
  assert.deepEqual(lost, [constrained]);
  assert.deepEqual(free.tokens.slice(free.promptLength), answer);
});
