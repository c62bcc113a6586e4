import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { concatBytes, fromHex, toHex } from "../../util/bytes.ts";
import { diceOfSeed, randomModel, randomShape } from "../random-model.suite.ts";
import { createReferenceExecutor } from "../reference/executor.ts";
import { chainHead, isMerklePath, logitsHash, merklePath, merkleRoot, tokenLeaf } from "./commitment.ts";
import { findFirstDifference } from "./difference.ts";
import { layerLeafBytes } from "./leaf.ts";
import { CommitmentRecorder } from "./recorder.ts";

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

const hashOf = (i: number): Uint8Array => sha256(Uint8Array.of(i, i >> 8));
const leavesOf = (count: number): Uint8Array[] => Array.from({ length: count }, (_, i) => hashOf(i));

/** RFC 6962, section 2.1, word by word; with this project's first byte for nodes, and leaves that are hashes already. */
function treeHash(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return leaves[0]!;
  let k = 1;
  while (2 * k < leaves.length) k *= 2;
  return sha256(Uint8Array.of(0x11), treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k)));
}

/** RFC 6962, section 2.1.1. */
function auditPath(leaves: readonly Uint8Array[], m: number): Uint8Array[] {
  if (leaves.length <= 1) return [];
  let k = 1;
  while (2 * k < leaves.length) k *= 2;
  return m < k
    ? [...auditPath(leaves.slice(0, k), m), treeHash(leaves.slice(k))]
    : [...auditPath(leaves.slice(k), m - k), treeHash(leaves.slice(0, k))];
}

test("trees have the shape of RFC 6962, and so do their paths", () => {
  for (let count = 0; count <= 70; count++) {
    const leaves = leavesOf(count);
    const root = merkleRoot(sha256, leaves);
    assert.deepEqual(root, treeHash(leaves), `${count} leaves`);
    for (let index = 0; index < count; index++) {
      const path = merklePath(sha256, leaves, index);
      assert.deepEqual(path, auditPath(leaves, index), `leaf ${index} of ${count}`);
      assert.ok(isMerklePath(sha256, root, leaves[index]!, index, count, path));
    }
  }
  assert.equal(
    toHex(merkleRoot(sha256, [])),
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  );
});

test("no altered path is accepted: leaf, place, hash, order or length", () => {
  const place = fc
    .integer({ min: 1, max: 200 })
    .chain((count) =>
      fc.record({ count: fc.constant(count), index: fc.nat(count - 1), bit: fc.nat(255), at: fc.nat() }),
    );
  fc.assert(
    fc.property(place, ({ count, index, bit, at }) => {
      const leaves = leavesOf(count);
      const root = merkleRoot(sha256, leaves);
      const path = merklePath(sha256, leaves, index);
      const leaf = leaves[index]!;
      const accepts = (given: {
        root?: Uint8Array;
        leaf?: Uint8Array;
        index?: number;
        path?: Uint8Array[];
      }): boolean =>
        isMerklePath(
          sha256,
          given.root ?? root,
          given.leaf ?? leaf,
          given.index ?? index,
          count,
          given.path ?? path,
        );
      assert.ok(accepts({}));
      const flipped = (hash: Uint8Array): Uint8Array =>
        hash.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
      assert.ok(!accepts({ leaf: flipped(leaf) }));
      assert.ok(!accepts({ root: flipped(root) }));
      for (let other = 0; other < count; other++) assert.equal(accepts({ index: other }), other === index);
      for (const wrong of [
        -1,
        count,
        index + 0.5,
        index + 2 ** 32,
        index - 2 ** 32,
        Number.NaN,
        -index - 1,
      ]) {
        assert.ok(!accepts({ index: wrong }), `place ${wrong}`);
      }
      assert.ok(!accepts({ path: [...path, leaf] }));
      if (path.length === 0) return;
      const i = at % path.length;
      assert.ok(!accepts({ path: path.toSpliced(i, 1, flipped(path[i]!)) }));
      assert.ok(!accepts({ path: path.toSpliced(i, 1) }));
      assert.ok(!accepts({ path: path.slice(0, -1) }));
      if (path.length > 1) assert.ok(!accepts({ path: path.toReversed() }));
    }),
    { numRuns: 300 },
  );
});

test("what is hashed begins with its kind", () => {
  const logits = Int32Array.of(1, -2);
  const little = fromHex("01000000feffffff");
  assert.deepEqual(logitsHash(sha256, logits), sha256(Uint8Array.of(2), little));
  // A layer's bytes have their kind in front already.
  assert.deepEqual(layerLeafBytes(logits, null), concatBytes([Uint8Array.of(1), little]));
  assert.deepEqual(tokenLeaf(sha256, 258), sha256(fromHex("0302010000")));
  const row = hashOf(2);
  assert.deepEqual(
    chainHead(sha256, hashOf(1), 258, row),
    sha256(concatBytes([fromHex("04"), hashOf(1), fromHex("02010000"), row])),
  );
});

test("however large what layers make, a recorder hashes all of it in order", () => {
  const recorder = new CommitmentRecorder(sha256, { keepsLeaves: true });
  const sizes = [1, 100_000, 200_000, 7, 300_000, 262_144, 1, 262_145, 3];
  const bytesOf = (row: number, layer: number): Uint8Array =>
    new Uint8Array(sizes[(layer + row) % sizes.length]!).fill(16 * row + layer);
  const listener = recorder.listener();
  const shown = new Uint8Array(400_000);
  for (const layer of sizes.keys()) {
    for (const row of [0, 1]) {
      const bytes = bytesOf(row, layer);
      shown.set(bytes);
      listener(row, layer, shown.subarray(0, bytes.length));
    }
  }
  recorder.close([5, 6]);
  for (const row of [0, 1]) {
    const expected = [...sizes.keys()].map((layer) => sha256(bytesOf(row, layer)));
    assert.deepEqual(recorder.leaves[row], [...expected, tokenLeaf(sha256, 5 + row)]);
  }
});

test("a recorder gives the same whatever steps a sequence is computed in", async () => {
  const dice = diceOfSeed(5);
  const shape = randomShape(dice, { layers: 2, contextTokensMax: 9, vocabularySize: 31 });
  const executor = createReferenceExecutor(await randomModel(dice, shape, "calm"));
  const tokens = [3, 1, 4, 1, 5, 9, 2, 6];
  const record = (cuts: readonly number[], changed = -1): CommitmentRecorder => {
    const recorder = new CommitmentRecorder(sha256, { keepsLeaves: true });
    const [own, other] = [executor.newSequence(), executor.newSequence()];
    for (let at = 0, i = 0; at < tokens.length; i++) {
      const part = tokens.slice(at, at + cuts[i % cuts.length]!);
      const inputs = part.map((token, j) => (at + j === changed ? token + 1 : token));
      at += part.length;
      // Rows of another sequence between ours: rows 1, 3, 5, …
      const rows = inputs.flatMap((input) => [
        { sequence: other, input: 0, wantsLogits: false },
        { sequence: own, input, wantsLogits: at % 2 === 0 },
      ]);
      executor.step(
        rows,
        recorder.listener((row) => (row % 2 === 1 ? (row - 1) / 2 : -1)),
      );
      recorder.close(inputs);
    }
    return recorder;
  };
  const whole = record([8]);
  for (const cuts of [[1], [3], [2, 1, 5]]) {
    const again = record(cuts);
    assert.deepEqual(again.execRoot(), whole.execRoot());
    assert.deepEqual(again.chain, whole.chain);
    assert.equal(findFirstDifference(whole, again), null);
  }
  assert.equal(whole.leaves.length, tokens.length);
  assert.equal(whole.leaves[0]!.length, 3 + 1);
  // One token changed: every row from there on differs, none before.
  const changed = record([8], 5);
  assert.deepEqual(findFirstDifference(whole, changed), { position: 5, part: 0 });
  assert.notDeepEqual(changed.chain, whole.chain);
  assert.deepEqual(findFirstDifference(whole, { rows: changed.rows }), { position: 5, part: null });
  assert.deepEqual(findFirstDifference({ rows: whole.rows.slice(0, 4) }, whole), { position: 4, part: null });
});
