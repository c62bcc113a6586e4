/** Faults put into the trace of a small model, one bit each: found, and found where they are. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { merkleRoot, tokenLeaf } from "../exact/commitment/commitment.ts";
import type { Executor } from "../exact/executor.ts";
import { diceOfSeed, randomModel, randomShape } from "../exact/random-model.suite.ts";
import { createReferenceExecutor } from "../exact/reference/executor.ts";
import { type SamplerParameters, sampleToken } from "../exact/sampler/sampler.ts";
import { sha256 } from "./fixture.suite.ts";
import { concatBytes } from "../util/bytes.ts";
import { Trace } from "./trace.ts";
import { type Claim, type ClaimedAnswer, type ReplayReport, replayAnswer } from "./replay.ts";

const promptTokens = [3, 1, 4];
const answerTokens = 6;
const endToken = 0;
const sampler: SamplerParameters = {
  inverseTemperature: 2 ** 16,
  topK: 0,
  topP: 2 ** 16,
  minP: 0,
  presencePenalty: 1_000,
  frequencyPenalty: 500,
  bias: new Map([[endToken, -400_000]]),
  key: [5, 0],
};

const dice = diceOfSeed(11);
const shape = randomShape(dice, {
  layers: 2,
  dim: 16,
  headDim: 16,
  headsKv: 1,
  heads: 1,
  vocabularySize: 24,
  contextTokensMax: 16,
});
const executor: Executor = createReferenceExecutor(await randomModel(dice, shape, "calm"));

/** What somebody computed: leaves of each position before they are hashed, and what they drew. */
interface Computed {
  readonly outputTokens: number[];
  readonly leaves: Uint8Array[][];
  readonly logits: Int32Array[];
}

/** @param choose in place of the sampler's */
function compute(choose: (drawn: number, place: number) => number = (drawn) => drawn): Computed {
  const sequence = executor.newSequence();
  const computed: Computed = { outputTokens: [], leaves: [], logits: [] };
  const counts = new Map<number, number>();
  for (let position = 0; computed.outputTokens.length < answerTokens; position++) {
    const input = [...promptTokens, ...computed.outputTokens][position]!;
    const leaves: Uint8Array[] = [];
    const [logits] = executor.step([{ sequence, input, wantsLogits: true }], (_row, _layer, bytes) => {
      leaves.push(bytes.slice());
    });
    computed.leaves.push(leaves);
    if (position < promptTokens.length - 1) continue;
    computed.logits.push(logits!);
    const place = computed.outputTokens.length;
    const token = choose(sampleToken(logits!, sampler, counts, place), place);
    counts.set(token, (counts.get(token) ?? 0) + 1);
    computed.outputTokens.push(token);
  }
  sequence.free();
  return computed;
}

/** What they would commit to. */
function commit({ outputTokens, leaves }: Computed) {
  const tokens = [...promptTokens, ...outputTokens];
  const hashed = leaves.map((each, position) => [
    ...each.map((bytes) => sha256(bytes)),
    tokenLeaf(sha256, tokens[position]!),
  ]);
  const rows = hashed.map((each) => merkleRoot(sha256, each));
  const trace = new Trace(sha256);
  trace.push(tokens, concatBytes(rows));
  const claim = (positions: number, hasRoot: boolean): Claim => ({
    positions,
    chain: trace.chain(positions),
    root: hasRoot ? merkleRoot(sha256, rows.slice(0, positions)) : null,
  });
  return { claims: [claim(5, false), claim(rows.length, true)], known: { rows, leaves: hashed } };
}

function verify(computed: Computed, given: Partial<ClaimedAnswer> = {}): ReplayReport {
  const steps = replayAnswer(
    { sha256, executor },
    {
      promptTokens,
      outputTokens: computed.outputTokens,
      sampler,
      isEnd: (token) => token === endToken,
      claims: commit(computed).claims,
      hasEnd: false,
      mask: null,
      known: null,
      ...given,
    },
  );
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

const honest = compute();
const positions = honest.leaves.length;

test("an honest answer has no fault, with rows known or not", () => {
  const { known } = commit(honest);
  assert.deepEqual(verify(honest), { positions, fault: null, rows: known.rows });
  assert.deepEqual(verify(honest, { known }), { positions, fault: null, rows: known.rows });
});

test("one wrong bit in a residual vector, a key or a value is found, and located to position and layer", () => {
  fc.assert(
    fc.property(fc.nat(positions - 1), fc.nat(shape.layers), fc.nat(), (position, layer, where) => {
      const leaves = honest.leaves.map((each) => each.map((bytes) => bytes.slice()));
      const bytes = leaves[position]![layer]!;
      // The first byte is the kind of leaf.
      const bit = 8 + (where % (8 * (bytes.length - 1)));
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const faulty = { ...honest, leaves };
      const { fault } = verify(faulty);
      assert.ok(fault?.kind === "numbers");
      assert.ok(fault.position <= position && position <= fault.lastPosition);
      const located = verify(faulty, { known: commit(faulty).known }).fault;
      assert.deepEqual(located, { kind: "numbers", position, lastPosition: position, part: layer });
    }),
    { numRuns: 150 },
  );
});

test("a token other than the drawn one is found at its place, though everything else was computed for it", () => {
  for (let place = 0; place < answerTokens; place++) {
    for (let bit = 0; bit < 4; bit++) {
      const faulty = compute((drawn, at) => (at === place ? drawn ^ (1 << bit) : drawn));
      const claimed = faulty.outputTokens[place]!;
      if (claimed === endToken || claimed >= shape.vocabularySize) continue;
      assert.deepEqual(verify(faulty).fault, {
        kind: "token",
        position: place,
        claimed,
        drawn: honest.outputTokens[place],
      });
    }
  }
});

test("a token that is changed only in what was delivered does not fit what was committed to", () => {
  for (let place = 0; place < answerTokens; place++) {
    const outputTokens = honest.outputTokens.map((token, i) => (i === place ? (token % 23) + 1 : token));
    if (outputTokens[place] === honest.outputTokens[place]) continue;
    const { fault } = verify({ ...honest, outputTokens }, { claims: commit(honest).claims });
    assert.equal(fault?.kind, "token");
    assert.equal(fault.position, place);
  }
});

test("a wrong bit in the logits is found where it changes a draw, and changes nothing else", () => {
  let changed = 0;
  fc.assert(
    fc.property(
      fc.nat(answerTokens - 1),
      fc.nat(shape.vocabularySize - 1),
      fc.nat(24),
      (place, token, bit) => {
        const logits = honest.logits[place]!.slice();
        logits[token]! ^= 1 << bit;
        const counts = new Map<number, number>();
        for (const each of honest.outputTokens.slice(0, place)) counts.set(each, (counts.get(each) ?? 0) + 1);
        const drawn = sampleToken(logits, sampler, counts, place);
        if (drawn === honest.outputTokens[place] || drawn === endToken) return;
        changed += 1;
        const { fault } = verify(compute((usual, at) => (at === place ? drawn : usual)));
        assert.deepEqual(fault, {
          kind: "token",
          position: place,
          claimed: drawn,
          drawn: honest.outputTokens[place],
        });
      },
    ),
    { numRuns: 150 },
  );
  assert.ok(changed > 10, "hardly any bit mattered");
});

test("an end that the model did not draw is found", () => {
  const short = {
    ...honest,
    outputTokens: honest.outputTokens.slice(0, 3),
    leaves: honest.leaves.slice(0, 6),
  };
  assert.equal(verify(short, { hasEnd: false }).fault, null, "cut off by the client");
  assert.deepEqual(verify(short, { hasEnd: true }).fault, {
    kind: "token",
    position: 3,
    claimed: null,
    drawn: honest.outputTokens[3],
  });
});

test("other sampling than what was asked is found", () => {
  const greedy = { ...sampler, inverseTemperature: 0 };
  assert.equal(verify(honest, { sampler: greedy }).fault?.kind, "token");
  assert.equal(verify(honest, { sampler: { ...sampler, key: [6, 0] } }).fault?.kind, "token");
});
