import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { memorySource } from "../../formats/byte-source.ts";
import { extentOf, type LayerTensor, type ModelSource, type TensorRef } from "../../formats/model-source.ts";
import { SkeinError } from "../../util/errors.ts";
import { utf8 } from "../../util/bytes.ts";
import { tokenTypes } from "../tokenizer/data.ts";
import { type ImportedModel, importGguf } from "./gguf.ts";
import { type HuggingFaceFiles, importHuggingFace, isHuggingFaceFile } from "./hugging-face.ts";

const never = new AbortController().signal;
const tinyFile = new URL("../../../models/tiny.Q8_0.gguf", import.meta.url);

const layerNames: Partial<Record<LayerTensor, string>> = {
  attnNorm: "input_layernorm",
  q: "self_attn.q_proj",
  k: "self_attn.k_proj",
  v: "self_attn.v_proj",
  attnOutput: "self_attn.o_proj",
  ffnNorm: "post_attention_layernorm",
  gate: "mlp.gate_proj",
  up: "mlp.up_proj",
  down: "mlp.down_proj",
};

function tensorsOf({ shape }: ModelSource): { name: string; tensor: TensorRef }[] {
  const layers = Array.from({ length: shape.layers }, (_, layer) =>
    Object.entries(layerNames).map(([kind, name]) => ({
      name: `model.layers.${layer}.${name}.weight`,
      tensor: { kind: kind as LayerTensor, layer },
    })),
  );
  return [
    { name: "model.embed_tokens.weight", tensor: { kind: "embedding" } },
    ...layers.flat(),
    { name: "model.norm.weight", tensor: { kind: "outputNorm" } },
  ];
}

/** The weights as 32-bit floats: the same numbers. */
async function safetensorsOf(source: ModelSource, tensors = tensorsOf(source)): Promise<Uint8Array> {
  const header: Record<string, object> = {};
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const { name, tensor } of tensors) {
    const { rows, columns } = extentOf(source.shape, tensor.kind);
    const values = await source.readRows(tensor, 0, rows, never);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice();
    const shape = rows === 1 ? [columns] : [rows, columns];
    header[name] = { dtype: "F32", shape, data_offsets: [offset, offset + bytes.length] };
    offset += bytes.length;
    parts.push(bytes);
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...parts]);
}

/** What transformers would keep beside the weights. */
function textsOf({ source: { shape, chatTemplate }, tokenizer }: ImportedModel): Record<string, string> {
  const ids = tokenizer.tokens.map((content, id) => ({ content, id, type: tokenizer.types[id] }));
  const isAdded = ({ type }: { type: number | undefined }): boolean => type === tokenTypes.control;
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    "config.json": JSON.stringify({
      architectures: ["LlamaForCausalLM"],
      hidden_size: shape.dim,
      intermediate_size: shape.ffnDim,
      num_hidden_layers: shape.layers,
      num_attention_heads: shape.heads,
      num_key_value_heads: shape.headsKv,
      head_dim: shape.headDim,
      vocab_size: shape.vocabularySize,
      max_position_embeddings: shape.contextTokensMax,
      rms_norm_eps: 1e-5,
      rope_theta: 10_000,
      tie_word_embeddings: true,
    }),
    "tokenizer.json": JSON.stringify({
      model: {
        type: "BPE",
        vocab: Object.fromEntries(
          ids.filter((token) => !isAdded(token)).map(({ content, id }) => [content, id]),
        ),
        merges: tokenizer.merges,
      },
      added_tokens: ids.filter(isAdded).map(({ content, id }) => ({ content, id, special: true })),
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [{ type: "Digits", individual_digits: true }, byteLevel],
      },
    }),
    "tokenizer_config.json": JSON.stringify({
      bos_token: tokenizer.tokens[tokenizer.bosId!],
      eos_token: tokenizer.tokens[tokenizer.eosId!],
      pad_token: tokenizer.tokens[tokenizer.padId!],
      add_bos_token: false,
      chat_template: chatTemplate,
    }),
    "generation_config.json": JSON.stringify({ eos_token_id: tokenizer.eosId }),
  };
}

function filesOf(entries: Record<string, string | Uint8Array>): HuggingFaceFiles {
  return new Map(
    Object.entries(entries).map(([name, content]) => [
      name,
      memorySource(`model/${name}`, typeof content === "string" ? utf8(content) : content),
    ]),
  );
}

async function tiny(): Promise<ImportedModel> {
  return importGguf([memorySource("tiny.gguf", readFileSync(tinyFile))], never);
}

test("a folder of Hugging Face is the same model as the GGUF file that was made of it", async () => {
  const gguf = await tiny();
  const texts = textsOf(gguf);
  const files = filesOf({ ...texts, "model.safetensors": await safetensorsOf(gguf.source) });
  const folder = await importHuggingFace("model", files, never);
  assert.deepEqual({ ...folder.tokenizer, endIds: [] }, { ...gguf.tokenizer, endIds: [] });
  assert.deepEqual(folder.source.shape, gguf.source.shape);
  assert.equal(folder.source.chatTemplate, gguf.source.chatTemplate);
  for (const { tensor } of tensorsOf(gguf.source)) {
    assert.deepEqual(
      await folder.source.readRows(tensor, 0, 1, never),
      await gguf.source.readRows(tensor, 0, 1, never),
    );
  }
});

test("models in parts, templates in a file or among others, files that are somebody else's", async () => {
  const gguf = await tiny();
  const tensors = tensorsOf(gguf.source);
  const parts = [tensors.slice(0, 10), tensors.slice(10)];
  const names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
  const map = parts.flatMap((part, i) => part.map(({ name }) => [name, names[i]] as const));
  const templates = [
    { name: "tools", template: "no" },
    { name: "default", template: "yes" },
  ];
  const entries = {
    ...textsOf(gguf),
    "tokenizer_config.json": JSON.stringify({ chat_template: templates, add_bos_token: false }),
    "model.safetensors.index.json": JSON.stringify({ weight_map: Object.fromEntries(map) }),
    [names[0]!]: await safetensorsOf(gguf.source, parts[0]),
    [names[1]!]: await safetensorsOf(gguf.source, parts[1]),
    "model.safetensors": "somebody joined them here",
  };
  const model = await importHuggingFace("model", filesOf(entries), never);
  assert.equal(model.source.chatTemplate, "yes");
  const withFile = filesOf({ ...entries, "chat_template.jinja": "the file" });
  assert.equal((await importHuggingFace("model", withFile, never)).source.chatTemplate, "the file");
  for (const name of Object.keys(entries)) assert.ok(isHuggingFaceFile(name), name);
  for (const name of ["consolidated.safetensors", "README.md", "pytorch_model.bin", "model.safetensors.tmp"])
    assert.ok(!isHuggingFaceFile(name), name);
});

test("what is missing or broken is named", async () => {
  const gguf = await tiny();
  const whole = { ...textsOf(gguf), "model.safetensors": await safetensorsOf(gguf.source) };
  const refused = async (changes: Record<string, string | undefined>, reason: RegExp): Promise<void> => {
    const entries: Record<string, string | Uint8Array> = { ...whole };
    for (const [name, content] of Object.entries(changes)) {
      if (content === undefined) delete entries[name];
      else entries[name] = content;
    }
    await assert.rejects(
      importHuggingFace("model", filesOf(entries), never),
      (error) =>
        error instanceof SkeinError &&
        /^(?:invalid|unsupported)_model/.test(error.code) &&
        reason.test(error.message),
      String(reason),
    );
  };
  await refused({ "config.json": undefined }, /has no config\.json/);
  await refused({ "tokenizer.json": undefined }, /has no tokenizer\.json/);
  await refused({ "model.safetensors": undefined }, /has no model\.safetensors/);
  await refused({ "tokenizer.json": "{" }, /JSON|ends/);
  await refused({ "tokenizer.json": "{}" }, /tokenizer/);
  await refused({ "config.json": '{"architectures": ["GemmaForCausalLM"]}' }, /GemmaForCausalLM/);
});
