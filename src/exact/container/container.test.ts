import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode, rfc8949EncodeOptions } from "cborg";
import { memorySource } from "../../formats/byte-source.ts";
import { SkeinError } from "../../util/errors.ts";
import { concatBytes } from "../../util/bytes.ts";
import { collectModel, tensorsOf } from "../model/sink.ts";
import { diceOfSeed, giveModel, randomModel, randomShape } from "../random-model.suite.ts";
import { openContainer, readContainer } from "./container.ts";
import { containerOf, type ContainerParts, sha256, smallTokenizer, tensorBytesOf } from "./fixture.suite.ts";
import { runFuzzCase } from "./fuzz.suite.ts";

const never = new AbortController().signal;
const dice = diceOfSeed(11);
const shape = randomShape(dice, { layers: 2, vocabularySize: 9, hasTiedEmbeddings: false, hasQkvBias: true });
const model = await randomModel(dice, shape, "wild");
const parts: ContainerParts = {
  shape,
  name: "small",
  tokenizer: smallTokenizer("gpt2", 8),
  chatTemplate: "{{ messages }}",
  tensors: await tensorBytesOf(model),
};
const file = containerOf(parts);
const open = (bytes: Uint8Array) => openContainer(memorySource("small.skein", bytes), sha256, never);

function refuses(bytes: Uint8Array, message: RegExp): Promise<void> {
  return assert.rejects(open(bytes), (error: unknown) => {
    assert.ok(error instanceof SkeinError && error.code === "invalid_model_file", String(error));
    assert.match(error.message, message);
    return true;
  });
}

test("what is written is read: header, whole model, and every stage", async () => {
  const info = await open(file);
  assert.match(info.modelId, /^exact-sha256:[0-9a-f]{64}$/);
  const { name, tokenizer, chatTemplate, manifest } = info;
  assert.deepEqual(
    { name, tokenizer, chatTemplate, shape: manifest.shape },
    { name: parts.name, tokenizer: parts.tokenizer, chatTemplate: parts.chatTemplate, shape },
  );
  for (const range of [
    { start: 0, end: 2 },
    { start: 0, end: 1 },
    { start: 1, end: 2 },
  ]) {
    const [read, expected] = [collectModel(shape, range), collectModel(shape, range)];
    let done = 0;
    await readContainer(memorySource("", file), info, sha256, read, {
      signal: never,
      range,
      onProgress: (bytes) => (done = bytes),
    });
    await giveModel(model, expected, range);
    assert.deepEqual(read.model(), expected.model());
    assert.ok(done > 0);
  }
});

test("the name is no part of the identity; everything else is", async () => {
  const { modelId } = await open(containerOf(parts));
  const idOf = async (change: Partial<ContainerParts>): Promise<string> =>
    (await open(containerOf({ ...parts, ...change }))).modelId;
  assert.equal(await idOf({ name: "other" }), modelId);
  const changes: Partial<ContainerParts>[] = [
    { chatTemplate: null },
    { tokenizer: { ...parts.tokenizer, addBos: true } },
    { shape: { ...shape, normEpsilon: shape.normEpsilon + 1 } },
    { shape: { ...shape, contextTokensMax: shape.contextTokensMax + 1 } },
    { tensors: parts.tensors.with(3, parts.tensors[3]!.with(0, 5)) },
  ];
  for (const change of changes) assert.notEqual(await idOf(change), modelId);
});

test("a flipped bit in a tensor is found, and said where", async () => {
  const info = await open(file);
  for (const [i, tensor] of tensorsOf(shape).entries()) {
    const damaged = file.slice();
    damaged[info.offsets[i]! + (i % 40)]! ^= 1 << (i % 8);
    const reading = readContainer(memorySource("", damaged), info, sha256, collectModel(shape), {
      signal: never,
    });
    await assert.rejects(reading, (error: unknown) => {
      assert.ok(error instanceof SkeinError && error.code === "invalid_model_file");
      assert.match(error.message, new RegExp(`damaged: ${tensor.kind}`));
      return true;
    });
  }
});

/** A file whose header is these bytes. */
function withHeader(header: Uint8Array): Uint8Array {
  const bytes = concatBytes([file.subarray(0, 12), header]);
  new DataView(bytes.buffer).setUint32(8, header.length, true);
  return bytes;
}

test("lists are refused by their length, before one item of them is built", async () => {
  const { buffer } = file;
  const length = new DataView(buffer).getUint32(8, true);
  const fields = decode(file.subarray(12, 12 + length)) as Record<string, unknown>;
  const tokenizer = decode(fields["tokenizer"] as Uint8Array) as Record<string, unknown>;
  /** With a list of as many empty texts as its head says. */
  const listOf = (count: number): Uint8Array => {
    if (count < 10_000) return encode(Array.from({ length: count }, () => ""));
    const list = new Uint8Array(5 + count).fill(0x60);
    list[0] = 0x9a;
    new DataView(list.buffer).setUint32(1, count);
    return list;
  };
  const tokenizerWith = (key: string, list: Uint8Array): Uint8Array => {
    const { [key]: _, ...rest } = tokenizer;
    // A map of so many fields as the first byte says.
    const whole = concatBytes([encode(rest, rfc8949EncodeOptions), encode(key), list]);
    whole[0]! += 1;
    return whole;
  };
  const headerWith = (bytes: Uint8Array): Uint8Array => containerOf({ ...parts, tokenizerBytes: bytes });
  const before = process.memoryUsage().heapUsed;
  for (const [key, count, message] of [
    ["merges", 60_000_000, /broken tokenizer \(60000000 merges; at most 4000000/],
    ["tokens", 2 ** 20 + 1, /1048577 tokens; at most 1048576/],
    ["endIds", 1_001, /1001 endIds; at most 1000/],
    ["other", 1, /a list where none belongs/],
  ] as const) {
    await refuses(headerWith(tokenizerWith(key, listOf(count))), message);
  }
  await refuses(withHeader(concatBytes([encode([]), listOf(50_000_000)])), /a list where none belongs/);
  const nested = encode({ ...fields, name: { name: { name: {} } } }, rfc8949EncodeOptions);
  await refuses(withHeader(nested), /too many maps/);
  await refuses(withHeader(new Uint8Array(64 * 2 ** 20 + 1)), /header has 67108865 bytes/);
  const grown = process.memoryUsage().heapUsed - before;
  assert.ok(grown < 2 ** 25, `${grown} bytes on the heap`);
});

test("a tokenizer whose parts do not fit together is refused", async () => {
  for (const [change, message] of [
    [{ types: parts.tokenizer.types.slice(1) }, /one type for each token/],
    [{ scores: new Float32Array(3) }, /one score for each token/],
    [{ eosId: 8 }, /names the token 8, but has only 8/],
    [{ tokens: parts.tokenizer.tokens.with(7, "x".repeat(1_025)) }, /1025 characters/],
  ] as const) {
    await refuses(containerOf({ ...parts, tokenizer: { ...parts.tokenizer, ...change } }), message);
  }
});

test("a model has one header: other spellings of the same are refused", async () => {
  const length = new DataView(file.buffer).getUint32(8, true);
  const fields = decode(file.subarray(12, 12 + length)) as Record<string, unknown>;
  const again = (header: Uint8Array): Uint8Array => {
    const start = Math.ceil((12 + header.length) / 64) * 64;
    const oldStart = Math.ceil((12 + length) / 64) * 64;
    const bytes = concatBytes([new Uint8Array(start), file.subarray(oldStart)]);
    bytes.set(file.subarray(0, 8));
    new DataView(bytes.buffer).setUint32(8, header.length, true);
    bytes.set(header, 12);
    return bytes;
  };
  // 1. Keys in another order.
  const reversed = Object.fromEntries(Object.entries(fields).toReversed());
  await refuses(again(encode(reversed, { mapSorter: () => 0 })), /no conversion writes/);
  // 2. Bytes behind the last hash.
  const roots = fields["tensorRoots"] as Uint8Array;
  await refuses(
    again(encode({ ...fields, tensorRoots: concatBytes([roots, Uint8Array.of(1)]) })),
    /no conversion writes/,
  );
  // 3. Something behind the header.
  const hidden = file.slice();
  const gap = 12 + length;
  if (gap % 64 !== 0) {
    hidden[gap] = 1;
    await refuses(hidden, /no conversion writes/);
  }
  // 4. Another manifest than its parts make.
  const manifest = fields["manifest"] as Record<string, unknown>;
  const wrong = { ...manifest, opsHash: new Uint8Array(32).fill(7) };
  await refuses(again(encode({ ...fields, manifest: wrong })), /contradicts itself/);
  await refuses(again(encode({ ...fields, manifest: { ...manifest, opsVersion: 9 } })), /version 9/);
  await refuses(again(encode({ ...fields, more: 1 })), /broken header/);
});

test("damaged and hostile files give a model or an error that says why, in bounded memory", async () => {
  const outcomes = new Map<string, number>();
  const firstSeed = Math.floor(Math.random() * 2 ** 31);
  for (let seed = firstSeed; seed < firstSeed + 1_000; seed++) {
    const { outcome } = await runFuzzCase(seed).catch((error: unknown) => {
      throw new Error(`npm run bench -- exact-fuzz --seed ${seed} --cases 1`, { cause: error });
    });
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  for (const outcome of [
    "invalid_model_file",
    "unsupported_model",
    "opened",
    "invalid_request",
    "unpacked",
  ]) {
    assert.ok(outcomes.has(outcome), `no case was ${outcome}`);
  }
});
