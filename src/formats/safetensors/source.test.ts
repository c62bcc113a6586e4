import assert from "node:assert/strict";
import { test } from "node:test";
import { f32Value, stringValue, u32Value } from "../gguf/fixture.suite.ts";
import { openGgufModel } from "../gguf/source.ts";
import { memorySource } from "../byte-source.ts";
import {
  type Config,
  configOf,
  type FixtureModel,
  fixtureTensors,
  ggufOf,
  type HeaderEntry,
  isSkeinError,
  jsonSource,
  type Metadata,
  never,
  readAll,
  safetensorsFiles,
  safetensorsOf,
  shardOf,
  smallLlama,
  writeSafetensors,
} from "../model-fixture.suite.ts";
import type { ModelSource } from "../model-source.ts";
import { plainFrequencies } from "../rope.ts";
import { readSafetensors } from "./header.ts";
import { openSafetensorsModel } from "./source.ts";

const openGguf = (model: FixtureModel, keys: Metadata = {}): Promise<ModelSource> =>
  openGgufModel([memorySource("m.gguf", ggufOf(model, keys))], never);
const open = (model: FixtureModel, changes: Config = {}): Promise<ModelSource> =>
  openSafetensorsModel(safetensorsFiles(model, changes), never);

test("GGUF and safetensors of the same weights are the same model", async () => {
  const kinds: Partial<FixtureModel>[] = [
    { architecture: "llama", type: "F32" },
    { architecture: "llama", type: "BF16", isTied: false, headsKv: 4 },
    { architecture: "mistral", headDim: 16 },
    { architecture: "qwen2", headsKv: 1 },
    { architecture: "qwen3", headDim: 32, isTied: false },
  ];
  for (const kind of kinds) {
    const model = { ...smallLlama, ...kind };
    const [ours, theirs] = [await openGguf(model), await open(model)];
    assert.deepEqual({ ...theirs.shape, architecture: "" }, { ...ours.shape, architecture: "" });
    assert.equal(theirs.shape.architecture, model.architecture);
    assert.deepEqual(
      [theirs.parameters, theirs.weightType, theirs.chatTemplate],
      [ours.parameters, ours.weightType, ours.chatTemplate],
    );
    const weights = await readAll(theirs);
    assert.deepEqual(await readAll(ours), weights);
    const values = new Map(fixtureTensors(model).map((tensor) => [tensor.gguf, tensor.values]));
    for (const [ref, name] of [
      [{ kind: "embedding" }, "token_embd.weight"],
      [{ kind: "q", layer: 1 }, "blk.1.attn_q.weight"],
      [{ kind: "down", layer: 0 }, "blk.0.ffn_down.weight"],
    ] as const) {
      const found = weights.find(([other]) => JSON.stringify(other) === JSON.stringify(ref))![1];
      assert.deepEqual(found, values.get(name));
    }
  }
});

test("rotary positions are the same in both kinds of files, and in old and new configs", async () => {
  const model = { ...smallLlama, headDim: 64 };
  const yarn = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 256 };
  const pairs: [Metadata, Config][] = [
    [{}, { rope_theta: undefined }],
    [{ "rope.freq_base": f32Value(1e6) }, { rope_theta: 1e6 }],
    [
      { "rope.scaling.type": stringValue("linear"), "rope.scaling.factor": f32Value(8) },
      { rope_scaling: { type: "linear", factor: 8 } },
    ],
    [
      {
        "rope.scaling.type": stringValue("yarn"),
        "rope.scaling.factor": f32Value(4),
        "rope.scaling.original_context_length": u32Value(256),
      },
      { rope_scaling: yarn },
    ],
  ];
  for (const [keys, config] of pairs) {
    const [ours, theirs] = [(await openGguf(model, keys)).shape, (await open(model, config)).shape];
    assert.deepEqual(theirs.ropeFrequencies, ours.ropeFrequencies);
    assert.equal(theirs.ropeMagnitude, ours.ropeMagnitude);
    const { rope_theta: theta = 10_000, rope_scaling: scaling = {}, ...others } = config;
    const parameters = { ...(scaling as object), rope_theta: theta };
    const renewed = { ...others, rope_theta: undefined, rope_parameters: parameters };
    assert.deepEqual((await open(model, renewed)).shape, theirs);
  }
});

test("rotary positions are scaled as transformers does it", async () => {
  const rope = async (scaling: Config, changes: Config = {}): Promise<[readonly number[], number]> => {
    const { shape } = await open(smallLlama, { rope_scaling: scaling, ...changes });
    return [shape.ropeFrequencies, shape.ropeMagnitude];
  };
  const plain = plainFrequencies(8, 10_000);
  const llama3 = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
  const [slow] = await rope({ ...llama3, original_max_position_embeddings: 64 });
  assert.deepEqual([slow[0], slow[3]], [plain[0], plain[3]! / 8]);
  assert.deepEqual(await rope(llama3, { original_max_position_embeddings: 64 }), [slow, 1]);
  const magnitude = async (scaling: Config): Promise<number> =>
    (await rope({ rope_type: "yarn", factor: 4, ...scaling }))[1];
  const full = 0.1 * Math.log(4) + 1;
  assert.equal(await magnitude({}), full);
  assert.equal(await magnitude({ attention_factor: 0.9 }), 0.9);
  assert.equal(await magnitude({ mscale: 0.5, mscale_all_dim: 1 }), (0.05 * Math.log(4) + 1) / full);
  assert.equal(await magnitude({ mscale: 0.5, mscale_all_dim: 0 }), full);
  assert.equal(await magnitude({ factor: null, original_max_position_embeddings: 128 }), full);
});

test("what a config does not say is what the classes of transformers take", async () => {
  const shape = async (model: Partial<FixtureModel>, config: Config) =>
    (await open({ ...smallLlama, ...model }, config)).shape;
  const missing = { head_dim: undefined, num_key_value_heads: undefined };
  assert.equal((await shape({ headsKv: 4 }, missing)).headsKv, 4);
  assert.equal((await shape({ headsKv: 4 }, { num_key_value_heads: null, head_dim: null })).headDim, 8);
  const mistral = { ...smallLlama, architecture: "mistral", heads: 8, headsKv: 8, headDim: 4 } as const;
  assert.equal((await shape(mistral, missing)).headsKv, 8);
  const long = { max_position_embeddings: 100_000 };
  assert.equal((await shape(mistral, { ...long, sliding_window: undefined })).contextTokensMax, 4096);
  assert.equal((await shape(mistral, long)).contextTokensMax, 100_000);
  assert.equal((await shape({}, { ...long, sliding_window: 7 })).contextTokensMax, 100_000);
  const qwen = { architecture: "qwen2" } as const;
  assert.equal((await shape(qwen, { ...long, sliding_window: 7 })).contextTokensMax, 100_000);
  const used = { ...long, use_sliding_window: true, sliding_window: 7 };
  assert.equal((await shape(qwen, used)).contextTokensMax, 7);
  assert.equal(
    await shape({ architecture: "qwen3", headDim: 128 }, missing).catch(String),
    "SkeinError: config.json has 4 query heads for 32 heads of keys and values.",
  );
});

test("an output matrix of its own counts more than the word tied", async () => {
  const untied = { ...smallLlama, isTied: false };
  assert.equal((await open(untied, { tie_word_embeddings: true })).shape.hasTiedEmbeddings, false);
  await assert.rejects(
    open(smallLlama, { tie_word_embeddings: false }),
    isSkeinError("invalid_model_file", /lacks the tensor "lm_head.weight"/),
  );
});

test("frequencies of older checkpoints are ignored, other tensors are not", async () => {
  const extra = (huggingFace: string): Promise<ModelSource> => {
    const tensor = { ...fixtureTensors(smallLlama)[1]!, huggingFace };
    const shard = shardOf(smallLlama, [...fixtureTensors(smallLlama), tensor]);
    const shards = [memorySource("model.safetensors", shard)];
    return openSafetensorsModel({ ...safetensorsFiles(smallLlama), shards }, never);
  };
  await extra("model.layers.0.self_attn.rotary_emb.inv_freq");
  await assert.rejects(
    extra("model.layers.0.self_attn.o_proj.bias"),
    isSkeinError("unsupported_model", /"model.layers.0.self_attn.o_proj.bias"/),
  );
});

test("configs of other models are refused", async () => {
  const table: [Config, RegExp][] = [
    [{ architectures: ["GemmaForCausalLM"] }, /architecture "GemmaForCausalLM"/],
    [{ architectures: ["__proto__"] }, /architecture "__proto__"/],
    [{ architectures: undefined }, /architecture ""/],
    [{ hidden_act: "gelu" }, /activation "gelu"/],
    [{ mlp_bias: true }, /biases in its feed-forward/],
    [{ partial_rotary_factor: 0.5 }, /only a part \(0.5\)/],
    [{ quantization_config: { quant_method: "gptq" } }, /quantised/],
    [{ rope_scaling: { type: "dynamic", factor: 2 } }, /by "dynamic"/],
    [{ rope_scaling: { type: "longrope", long_factor: [1] } }, /differ between/],
    [{ rope_parameters: { full_attention: { rope_theta: 1 } } }, /differ between/],
    [{ head_dim: 7 }, /odd length 7/],
  ];
  for (const [changes, says] of table) {
    await assert.rejects(open(smallLlama, changes), isSkeinError("unsupported_model", says), String(says));
  }
});

test("configs that contradict themselves or their files are refused", async () => {
  const table: [Config, RegExp][] = [
    [{ hidden_size: undefined }, /wrong value for "hidden_size"/],
    [{ hidden_size: "32" }, /wrong value for "hidden_size"/],
    [{ hidden_size: 2 ** 60 }, /wrong value for "hidden_size"/],
    [{ num_hidden_layers: 1e9 }, /lacks the tensor "model.layers.2.input/],
    [{ num_attention_heads: 2 ** 40 }, /where its hyperparameters/],
    [{ head_dim: 2 ** 40 }, /where its hyperparameters/],
    [{ head_dim: null, num_attention_heads: 6 }, /6 heads in 32 channels/],
    [{ vocab_size: 11 }, /of 10 × 32 where its hyperparameters ask for 11 × 32/],
    [{ rms_norm_eps: 0 }, /"rms_norm_eps"/],
    [{ rope_theta: 0.5 }, /rotary base 0.5/],
    [{ rope_scaling: { type: "linear" } }, /lacks the value factor/],
    [{ rope_scaling: { type: "linear", factor: -1 } }, /"rope_scaling.factor"/],
    [{ rope_scaling: { type: "yarn", factor: 4, beta_fast: 1, beta_slow: 1e6 } }, /rotary frequencies/],
    [
      { rope_scaling: { rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 4 } },
      /low_freq_factor 4/,
    ],
  ];
  for (const [changes, says] of table) {
    await assert.rejects(open(smallLlama, changes), isSkeinError("invalid_model_file", says), String(says));
  }
  const config = jsonSource("config.json", `{"a":1,"a":2}`);
  await assert.rejects(
    openSafetensorsModel({ ...safetensorsFiles(smallLlama), config }, never),
    isSkeinError("invalid_model_file", /config.json has the key "a" twice/),
  );
});

const values = Float32Array.from({ length: 8 }, (_, i) => i);
const two = [
  { name: "a", type: "F32", shape: [8], values },
  { name: "b", type: "F16", shape: [2, 4], values },
] as const;
const headerOf = (bytes: Uint8Array): Promise<unknown> => readSafetensors(memorySource("s", bytes), never);

test("headers of safetensors are read strictly", async () => {
  const place = (start: number, end: number): HeaderEntry => ({
    dtype: "F32",
    shape: [(end - start) / 4],
    data_offsets: [start, end],
  });
  const changed = (a: HeaderEntry, b: HeaderEntry): Buffer => writeSafetensors(two, () => ({ a, b }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(2n ** 63n);
  const table: [string, Uint8Array, RegExp][] = [
    ["empty", new Uint8Array(0), /too short/],
    ["endless header", Buffer.concat([length, Buffer.from("{}")]), /9223372036854776000 bytes/],
    ["cut header", writeSafetensors(two).subarray(0, 50), /truncated/],
    ["cut data", writeSafetensors(two).subarray(0, -1), /truncated: its tensors end/],
    ["more data", Buffer.concat([writeSafetensors(two), Buffer.of(0)]), /goes on after/],
    ["list", safetensorsOf("[]"), /no object/],
    ["text", safetensorsOf('"a"'), /no object/],
    ["broken", safetensorsOf("{"), /broken JSON/],
    ["depth", safetensorsOf('{"a":[[[[1]]]]}'), /3 levels/],
    ["twice", safetensorsOf('{"a":1,"a":1}'), /"a" twice/],
    ["notes", safetensorsOf('{"__metadata__":{"a":1}}'), /metadata that are not texts/],
    ["no entry", safetensorsOf('{"a":1}'), /broken entry/],
    ["foreign field", changed({ ...place(0, 32), more: 1 }, place(32, 48)), /broken entry/],
    ["fraction", changed({ ...place(0, 32), shape: [7.5] }, place(32, 48)), /broken entry/],
    ["negative", changed({ ...place(0, 32), data_offsets: [-4, 28] }, place(32, 48)), /broken entry/],
    ["backwards", changed({ ...place(0, 32), data_offsets: [32, 0] }, place(32, 48)), /do not agree/],
    ["shape", changed({ ...place(0, 32), shape: [9] }, place(32, 48)), /do not agree/],
    ["huge shape", changed({ ...place(0, 32), shape: [2 ** 52, 2 ** 52] }, place(32, 48)), /do not agree/],
    ["overlap", changed(place(0, 32), place(16, 48)), /overlap before the tensor "b"/],
    ["gap", changed(place(0, 16), place(32, 48)), /gap before the tensor "b"/],
    ["gap first", changed(place(16, 32), place(32, 48)), /gap before the tensor "a"/],
  ];
  await headerOf(writeSafetensors(two));
  await headerOf(safetensorsOf("{}"));
  for (const [what, bytes, says] of table) {
    await assert.rejects(headerOf(bytes), isSkeinError("invalid_model_file", says), what);
  }
  const foreign = changed({ ...place(0, 32), dtype: "F12" }, place(32, 48));
  await assert.rejects(headerOf(foreign), isSkeinError("unsupported_model", /"a" as "F12"/));
});

test("shards are one model when index and files agree", async () => {
  const tensors = fixtureTensors(smallLlama);
  const halves = [tensors.slice(0, 9), tensors.slice(9)];
  const fileName = (i: number): string => `model-0000${i + 1}-of-00002.safetensors`;
  const shards = halves.map((some, i) => memorySource(`/models/${fileName(i)}`, shardOf(smallLlama, some)));
  const entries = halves.flatMap((some, i) =>
    some.map(({ huggingFace }): [string, string] => [huggingFace, fileName(i)]),
  );
  const config = jsonSource("config.json", configOf(smallLlama));
  const openShards = (map: [string, string][], files = shards): Promise<ModelSource> => {
    const index = jsonSource("index.json", { metadata: {}, weight_map: Object.fromEntries(map) });
    return openSafetensorsModel({ config, index, shards: files, chatTemplate: "x" }, never);
  };
  const model = await openShards(entries);
  assert.equal(model.chatTemplate, "x");
  assert.deepEqual(await readAll(model), await readAll(await open(smallLlama)));
  const refused: [Promise<ModelSource>, RegExp][] = [
    [openShards(entries, shards.slice(0, 1)), /is in "model-00002-of-00002.safetensors", where it is not/],
    [openShards(entries.slice(1)), /index.json lacks the tensor "model.embed_tokens.weight"/],
    [openShards([["other", fileName(0)], ...entries]), /tensor "other" is in/],
    [openShards(entries.map(([name]) => [name, fileName(0)])), /where it is not/],
    [openShards(entries, [shards[0]!, shards[0]!]), /of another shard/],
    [openSafetensorsModel({ config, index: jsonSource("index.json", {}), shards }, never), /no weight_map/],
  ];
  for (const [attempt, says] of refused) {
    await assert.rejects(attempt, isSkeinError("invalid_model_file", says), String(says));
  }
});
