import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import { equalBytes, type Sha256 } from "./commitment/commitment.ts";
import { findFirstDifference, type KnownRows } from "./commitment/difference.ts";
import { CommitmentRecorder } from "./commitment/recorder.ts";
import type { Executor } from "./executor.ts";
import type { ExactModel, LayerRange } from "./model/model.ts";
import { diceOfSeed, giveModel, randomModel, randomShape, sliceModel } from "./random-model.suite.ts";
import { createReferenceExecutor } from "./reference/executor.ts";
import { replay, type ReplayedRow, type ReplayOptions, replayRows } from "./replay.ts";
import { sampleToken, type SamplerParameters } from "./sampler/sampler.ts";
import { createWasmExecutor } from "./wasm/executor.ts";

const { signal } = new AbortController();
const sha256: Sha256 = (...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};
const sampler: SamplerParameters = {
  inverseTemperature: 2 ** 16,
  topK: 0,
  topP: 2 ** 16,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  bias: new Map(),
  key: [3, 0],
};
const prompt = [3, 1, 4, 1, 5];
const positions = 14;

async function someModel(seed = 6): Promise<ExactModel> {
  const dice = diceOfSeed(seed);
  const shape = randomShape(dice, { layers: 3, contextTokensMax: 24, vocabularySize: 41 });
  return randomModel(dice, shape, "calm");
}

async function wasmOf(model: ExactModel): Promise<Executor> {
  const making = createWasmExecutor(model.shape, { range: model.range, rowsMax: 8 });
  await giveModel(model, making.sink);
  return making.executor();
}

/** Draws an answer token by token, as an engine does; the last token is chosen but not read. */
function generated(executor: Executor) {
  const sequence = executor.newSequence();
  const recorder = new CommitmentRecorder(sha256, { keepsLeaves: true });
  const tokens: number[] = [];
  let next = [...prompt];
  while (tokens.length < positions) {
    const rows = next.map((input, i) => ({ sequence, input, wantsLogits: i === next.length - 1 }));
    const outputs = executor.step(rows, recorder.listener());
    recorder.close(next);
    tokens.push(...next);
    next = [sampleToken(outputs.at(-1)!, sampler, new Map(), tokens.length - prompt.length)];
  }
  sequence.free();
  return { recorder, tokens };
}

function collected(
  stages: readonly Executor[],
  options: Partial<ReplayOptions> & Pick<ReplayOptions, "tokens">,
) {
  return [...replayRows(stages, { sha256, promptLength: prompt.length, ...options })];
}

const known = (rows: readonly ReplayedRow[]): KnownRows => ({
  rows: rows.map(({ row }) => row),
  leaves: rows.map(({ leaves }) => leaves),
});

test("a replay commits to what decoding did: either executor, any chunks, any stages", async () => {
  const model = await someModel();
  const stagesOf = async (make: (model: ExactModel) => Promise<Executor>, ...ranges: LayerRange[]) =>
    Promise.all(ranges.map(async (range) => make(await sliceModel(model, range))));
  const reference = async (part: ExactModel): Promise<Executor> => createReferenceExecutor(part);
  const whole = { start: 0, end: 3 };
  const { recorder, tokens } = generated(await wasmOf(model));
  for (const stages of [
    await stagesOf(reference, whole),
    await stagesOf(wasmOf, whole),
    await stagesOf(wasmOf, { start: 0, end: 1 }, { start: 1, end: 3 }),
    [
      ...(await stagesOf(wasmOf, { start: 0, end: 1 }, { start: 1, end: 2 })),
      ...(await stagesOf(reference, { start: 2, end: 3 })),
    ],
  ]) {
    for (const chunkRows of [undefined, 1, 3, 8]) {
      for (const logits of ["none", "answer", "all"] as const) {
        const options = {
          sha256,
          tokens,
          promptLength: prompt.length,
          logits,
          ...(chunkRows === undefined ? {} : { chunkRows }),
        };
        const rows: ReplayedRow[] = [];
        const commitment = await replay(stages, options, { signal, onRow: (row) => rows.push(row) });
        assert.deepEqual(commitment.execRoot, recorder.execRoot());
        assert.deepEqual(commitment.chain, recorder.chain);
        assert.equal(commitment.positions, positions);
        assert.equal(findFirstDifference(known(rows), recorder), null);
        assert.deepEqual(rows.at(-1)!.chain, recorder.chain);
        for (const { position, token, logits: shown } of rows) {
          assert.equal(token, tokens[position]);
          const isWanted = logits === "all" || (logits === "answer" && position >= prompt.length - 1);
          assert.equal(shown !== null, isWanted);
          if (shown === null || position < prompt.length - 1 || position === positions - 1) continue;
          const answered = position - (prompt.length - 1);
          assert.equal(sampleToken(shown, sampler, new Map(), answered), tokens[position + 1]);
        }
      }
    }
  }
});

test("what was not computed so is found where it is", async () => {
  const executor = await wasmOf(await someModel());
  const { tokens, recorder } = generated(executor);
  // 1. Another token in the answer.
  const other = tokens.with(9, (tokens[9]! + 1) % 41);
  assert.equal(findFirstDifference(known(collected([executor], { tokens: other })), recorder)?.position, 9);
  // 2. Single leaves of a claim.
  for (const [index, part] of [
    [0, 0],
    [2, 2],

    [4, "token"],
  ] as const) {
    const leaves = recorder.leaves.map((own) => [...own]);
    leaves[6]![index] = new Uint8Array(32);
    const rows = recorder.rows.with(6, new Uint8Array(32));
    assert.deepEqual(findFirstDifference({ rows, leaves }, recorder), { position: 6, part });
  }
  // 3. Another model.
  const wrong = await wasmOf(await someModel(7));
  if (wrong.shape.dim === executor.shape.dim) assert.fail("the test wants another model");
  const first = collected([wrong], { tokens, promptLength: 1 })[0]!;
  assert.ok(!equalBytes(first.row, recorder.rows[0]!));
});

test("a replay ends when asked to, and gives everything back", async () => {
  const executor = await wasmOf(await someModel());
  const { tokens } = generated(executor);
  const open = new Set<object>();
  const watched: Executor = {
    ...executor,
    shape: executor.shape,
    range: executor.range,
    contextTokensMax: executor.contextTokensMax,
    rowsMax: executor.rowsMax,
    newSequence() {
      const sequence = executor.newSequence();
      open.add(sequence);
      const free = sequence.free.bind(sequence);
      sequence.free = () => {
        open.delete(sequence);
        free();
      };
      return sequence;
    },
    step: (rows, onLayer) => executor.step(rows, onLayer),
  };
  const options = { sha256, tokens, promptLength: prompt.length, chunkRows: 1 };
  const abort = new AbortController();
  let seen = 0;
  const onRow = (): void => {
    if (++seen === 4) abort.abort();
  };
  await assert.rejects(
    replay([watched], options, { signal: abort.signal, onRow }),
    (error) => error instanceof SkeinError && error.code === "cancelled",
  );
  assert.equal(seen, 4);
  assert.equal(open.size, 0);
  const failing = replay([watched], options, {
    signal,
    onRow() {
      throw new Error("enough");
    },
  });
  await assert.rejects(failing, /enough/);
  assert.equal(open.size, 0);
  for (const row of replayRows([watched], options)) if (row.position === 2) break;
  assert.equal(open.size, 0);
});

test("lengths, tokens and stages that do not fit are refused", async () => {
  const model = await someModel();
  const executor = await wasmOf(model);
  const part = await wasmOf(await sliceModel(model, { start: 1, end: 3 }));
  const refused = (
    stages: Executor[],
    tokens: number[],
    promptLength: number,
    code = "invalid_request",
  ): void => {
    assert.throws(
      () => collected(stages, { tokens, promptLength }),
      (error) => error instanceof SkeinError && error.code === code,
    );
  };
  refused([executor], [], 0);
  refused([executor], [1, 2], 3);
  refused([executor], [1, 2], 0.5);
  refused([executor], [1, 41], 1);
  refused([executor], Array<number>(25).fill(1), 1, "context_length_exceeded");
  refused([part], [1], 1);
  refused([part, executor], [1], 1);
  refused([], [1], 1);
});
