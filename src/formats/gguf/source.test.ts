import assert from "node:assert/strict";
import { test } from "node:test";
import { memorySource } from "../byte-source.ts";
import {
  type FixtureModel,
  type FixtureTensor,
  fixtureTensors,
  ggufOf,
  isSkeinError,
  type Metadata,
  never,
  readAll,
  smallLlama,
} from "../model-fixture.suite.ts";
import type { ModelSource } from "../model-source.ts";
import { plainFrequencies } from "../rope.ts";
import { arrayValue, f32Value, stringValue, tinyBytes, u32Value } from "./fixture.suite.ts";
import { openGgufModel } from "./source.ts";

const open = (...files: Uint8Array[]): Promise<ModelSource> =>
  openGgufModel(
    files.map((bytes, i) => memorySource(`m${i}.gguf`, bytes)),
    never,
  );
const smallTensors = fixtureTensors(smallLlama);
const named = (name: string): FixtureTensor => smallTensors.find(({ gguf }) => gguf === name)!;

test("the demo model is a tied Llama whose every weight is finite", async () => {
  const model = await open(tinyBytes);
  const { ropeFrequencies, ...shape } = model.shape;
  assert.deepEqual(shape, {
    architecture: "llama",
    layers: 6,
    dim: 256,
    heads: 4,
    headsKv: 2,
    headDim: 64,
    ffnDim: 768,
    vocabularySize: 2048,
    contextTokensMax: 512,
    rmsEpsilon: Math.fround(1e-5),
    ropeMagnitude: 1,
    hasTiedEmbeddings: true,
    hasQkvBias: false,
    hasQkNorm: false,
  });
  assert.deepEqual(ropeFrequencies, plainFrequencies(64, 10_000));
  assert.deepEqual([model.weightType, model.parameters], ["Q8_0", 5_246_208n]);
  assert.match(model.chatTemplate!, /im_start/);
  const all = await readAll(model);
  assert.equal(all.length, 3 + 6 * 9);
  assert.deepEqual(all[2]![1], all[0]![1], "a tied output is the embedding");
});

test("rows come out in Hugging Face's order, whole or in any pieces", async () => {
  for (const type of ["F32", "F16", "BF16", "Q8_0"] as const) {
    const model = await open(ggufOf({ ...smallLlama, type }));
    for (const name of ["q", "k", "v"] as const) {
      const { values, rows } = named(`blk.1.attn_${name}.weight`);
      for (let start = 0; start <= rows; start++) {
        for (const count of [0, 1, 3, 8, rows - start].filter((n) => start + n <= rows)) {
          const read = await model.readRows({ kind: name, layer: 1 }, start, count, never);
          assert.deepEqual(
            read,
            values.subarray(start * 32, (start + count) * 32),
            `${name} ${start}+${count}`,
          );
        }
      }
    }
  }
});

test("rows outside of a tensor and tensors that a model lacks are mistakes of the caller", async () => {
  const model = await open(ggufOf(smallLlama));
  for (const [start, count] of [
    [0, 11],
    [-1, 1],
    [0.5, 1],
    [10, 1],
  ] as const) {
    await assert.rejects(model.readRows({ kind: "embedding" }, start, count, never), RangeError);
  }
  await assert.rejects(model.readRows({ kind: "q", layer: 2 }, 0, 1, never), RangeError);
  await assert.rejects(model.readRows({ kind: "qBias", layer: 0 }, 0, 1, never), RangeError);
  await assert.rejects(
    model.readRows({ kind: "embedding" }, 0, 1, AbortSignal.abort()),
    isSkeinError("cancelled", /cancelled/),
  );
});

test("weights that are no numbers are refused when they are read, and name their place", async () => {
  const tensors = smallTensors.map((tensor) =>
    tensor.gguf === "blk.0.ffn_up.weight"
      ? { ...tensor, values: tensor.values.with(5 * 32 + 1, Number.NaN) }
      : tensor,
  );
  const model = await open(ggufOf({ ...smallLlama, type: "F32" }, {}, tensors));
  await model.readRows({ kind: "up", layer: 0 }, 0, 5, never);
  await assert.rejects(
    model.readRows({ kind: "up", layer: 0 }, 3, 4, never),
    isSkeinError("invalid_model_file", /m0.gguf has a value .* in row 5 of tensor "blk.0.ffn_up.weight"/),
  );
});

test("rotary positions are scaled as llama.cpp does it", async () => {
  const rope = async (keys: Metadata, tensors = smallTensors): Promise<[readonly number[], number]> => {
    const { shape } = await open(ggufOf(smallLlama, keys, tensors));
    return [shape.ropeFrequencies, shape.ropeMagnitude];
  };
  const plain = plainFrequencies(8, 10_000);
  const scaling = (type: string, factor: number): Metadata => ({
    "rope.scaling.type": stringValue(type),
    "rope.scaling.factor": f32Value(factor),
  });
  assert.deepEqual(await rope({ "rope.freq_base": null }), [plain, 1]);
  assert.deepEqual(await rope({ "rope.freq_base": f32Value(5e5) }), [plainFrequencies(8, 5e5), 1]);
  assert.deepEqual(await rope(scaling("linear", 4)), [plain.map((one) => one / 4), 1]);
  assert.deepEqual(await rope(scaling("none", 4)), [plain, 1]);
  assert.deepEqual(await rope({ "rope.scale_linear": f32Value(2) }), [plain.map((one) => one / 2), 1]);
  const [yarn, magnitude] = await rope({
    ...scaling("yarn", 4),
    "rope.scaling.original_context_length": u32Value(128),
    "rope.scaling.attn_factor": f32Value(0.5),
  });
  assert.equal(yarn[0], 1);
  assert.equal(yarn[3], plain[3]! / 4);
  assert.ok(Math.abs(magnitude - (0.1 * Math.log(4) + 1) / 2) < 1e-12);
  const factors = {
    gguf: "rope_freqs.weight",
    huggingFace: "",
    rows: 4,
    columns: null,
    values: Float32Array.of(1, 1, 2, 8),
    rotatedHeads: null,
  };
  const divided = plain.map((one, i) => one / factors.values[i]!);
  assert.deepEqual(await rope({}, [...smallTensors, factors]), [divided, 1]);
});

test("a model in parts is the same model, if all are there in their order", async () => {
  const part = (number: number, tensors: FixtureTensor[], keys: Metadata = {}): Buffer =>
    ggufOf(smallLlama, { ...keys, "split.no": u32Value(number), "split.count": u32Value(2) }, tensors);
  const [first, second] = [part(0, smallTensors.slice(0, 7)), part(1, smallTensors.slice(7))];
  const whole = await readAll(await open(ggufOf(smallLlama)));
  assert.deepEqual(await readAll(await open(first, second)), whole);
  await assert.rejects(open(first), isSkeinError("invalid_model_file", /in 2 files, not 1/));
  await assert.rejects(open(second, first), isSkeinError("invalid_model_file", /is part 2 of its model/));
  await assert.rejects(
    open(first, first),
    isSkeinError("invalid_model_file", /m1.gguf is part 1 of its model/),
  );
  const twice = part(1, smallTensors);
  await assert.rejects(open(first, twice), isSkeinError("invalid_model_file", /in two of its parts/));
  await assert.rejects(open(), isSkeinError("invalid_model_file", /no files/));
});

test("a sliding window bounds the context", async () => {
  const { shape } = await open(ggufOf(smallLlama, { "attention.sliding_window": u32Value(100) }));
  assert.equal(shape.contextTokensMax, 100);
});

test("models of other kinds are refused, and the message says what is computed", async () => {
  const keys = (changes: Metadata): Buffer => ggufOf(smallLlama, changes);
  const extra = (gguf: string): Buffer =>
    ggufOf(smallLlama, {}, [...smallTensors, { ...named("output_norm.weight"), gguf }]);
  const table: [string, Buffer, RegExp][] = [
    ["architecture", keys({ "general.architecture": stringValue("gemma3") }), /architecture "gemma3"/],
    ["no architecture", keys({ "general.architecture": null }), /architecture ""/],
    ["experts", keys({ expert_count: u32Value(8) }), /mixture of experts/],
    ["soft cap", keys({ final_logit_softcapping: f32Value(30) }), /30.*final_logit_softcapping/],
    ["scale", keys({ "attention.scale": f32Value(0.5) }), /0.5.*attention.scale/],
    ["sections", keys({ "rope.dimension_sections": u32Value(1) }), /rope.dimension_sections/],
    ["part of a head", keys({ "rope.dimension_count": u32Value(4) }), /only 4 of the 8 channels/],
    ["value heads", keys({ "attention.value_length": u32Value(16) }), /8 .* keys and 16 for values/],
    ["long rope", keys({ "rope.scaling.type": stringValue("longrope") }), /by "longrope"/],
    ["bias of the output", extra("blk.0.attn_output.bias"), /does not have: "blk.0.attn_output.bias"/],
    ["classifier", extra("cls.weight"), /"cls.weight"/],
  ];
  for (const [what, file, says] of table) {
    await assert.rejects(open(file), isSkeinError("unsupported_model", says), what);
  }
});

test("tensors in other types are refused by name", async () => {
  const file = Buffer.from(ggufOf({ ...smallLlama, type: "Q8_0" }));
  // The type follows name, number of dimensions and two dimensions; 20 is IQ4_NL.
  const name = "blk.0.ffn_gate.weight";
  const at = file.indexOf(name) + name.length + 4 + 16;
  assert.equal(file.readUInt32LE(at), 8);
  file.writeUInt32LE(20, at);
  await assert.rejects(
    open(file),
    isSkeinError("unsupported_model", /"blk.0.ffn_gate.weight" as IQ4_NL.*F32, F16, BF16, Q8_0, Q4_0/),
  );
});

test("models that contradict themselves are refused", async () => {
  const keys = (changes: Metadata): Buffer => ggufOf(smallLlama, changes);
  const without = (name: string): Buffer =>
    ggufOf(
      smallLlama,
      {},
      smallTensors.filter(({ gguf }) => gguf !== name),
    );
  const overlapping = Buffer.from(ggufOf(smallLlama));
  const norm = overlapping.indexOf("output_norm.weight") + "output_norm.weight".length + 4 + 8 + 4;
  overlapping.writeBigUInt64LE(0n, norm);
  const qwen: FixtureModel = { ...smallLlama, architecture: "qwen2" };
  const unbiased = fixtureTensors(qwen).filter(({ gguf }) => gguf !== "blk.1.attn_k.bias");
  const table: [string, Buffer, RegExp][] = [
    ["no dimension", keys({ embedding_length: null }), /lacks the key llama.embedding_length/],
    ["zero layers", keys({ block_count: u32Value(0) }), /0 under the key llama.block_count/],
    ["absurd layers", keys({ block_count: u32Value(4_000_000_000) }), /lacks the tensor "blk.2.attn_norm/],
    ["absurd heads", keys({ "attention.head_count": u32Value(2 ** 31) }), /where its hyperparameters/],
    [
      "absurd head",
      keys({ "attention.key_length": u32Value(2 ** 30), "attention.value_length": u32Value(2 ** 30) }),
      /where its hyperparameters/,
    ],
    ["more layers", keys({ block_count: u32Value(3) }), /lacks the tensor "blk.2.attn_norm.weight"/],
    ["text for a number", keys({ block_count: stringValue("2") }), /"2" under the key llama.block_count/],
    ["list for a number", keys({ block_count: arrayValue(["2"]) }), /a list under the key llama.block_count/],
    ["heads", keys({ "attention.head_count_kv": u32Value(3) }), /4 query heads for 3/],
    [
      "uneven heads",
      keys({
        "attention.head_count": u32Value(3),
        "attention.head_count_kv": u32Value(1),
        "attention.key_length": null,
      }),
      /3 heads in 32 channels/,
    ],
    ["epsilon", keys({ "attention.layer_norm_rms_epsilon": f32Value(Number.NaN) }), /"NaN" under the key/],
    ["rotary base", keys({ "rope.freq_base": f32Value(-1) }), /rotary base -1/],
    ["tokens", keys({ "tokenizer.ggml.tokens": arrayValue(["a"]) }), /1 tokens, but embeddings of 10/],
    ["wrong width", keys({ feed_forward_length: u32Value(32) }), /of 64 × 32 where .* ask for 32 × 32/],
    ["no embedding", without("token_embd.weight"), /lacks the matrix token_embd/],
    ["no norm", without("blk.1.ffn_norm.weight"), /lacks the tensor "blk.1.ffn_norm.weight"/],
    ["overlap", overlapping, /tensors that overlap/],
    ["bias missing", ggufOf(qwen, {}, unbiased), /lacks the tensor "blk.1.attn_k.bias"/],
    ["no GGUF", Buffer.from("GGML, an older kind of file"), /not a GGUF/],
  ];
  for (const [what, file, says] of table) {
    await assert.rejects(open(file), isSkeinError("invalid_model_file", says), what);
  }
});
