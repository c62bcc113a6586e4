import type { Command } from "commander";
import { type ContainerInfo, openContainer } from "../../../exact/container/container.ts";
import { toHex } from "../../../util/bytes.ts";
import { tensorsOf } from "../../../exact/model/sink.ts";
import { tensorExtent } from "../../../exact/model/weight-bytes.ts";
import { requireConverted } from "../../../engine/exact/convert.ts";
import { cacheBytesPerToken, weightBytes } from "../../../engine/exact/memory-plan.ts";
import { openFileSource } from "../../../engine/file-source.ts";
import { sha256 } from "../../../engine/sha256.ts";
import { printableJson } from "../../../util/printable.ts";
import { contextOf } from "../../context.ts";
import { bytesText, table } from "../../terminal.ts";

/** `skein exact inspect`: what the header says; the weights are not read. */
export async function inspect(file: string, command: Command): Promise<void> {
  const { flags } = contextOf(command);
  await requireConverted(file);
  const source = await openFileSource(file);
  try {
    const info = await openContainer(source, sha256, new AbortController().signal);
    const facts = factsOf(info, source.size);
    if (flags["json"] === true) console.log(printableJson(facts));
    else console.log(table([file, ""], rowsOf(facts)));
  } finally {
    await source.close();
  }
}

function factsOf(info: ContainerInfo, fileBytes: number) {
  const { shape, opsVersion, opsHash, quantization } = info.manifest;
  const { turns, normEpsilon, headNormEpsilon, ...sizes } = shape;
  const { tokenizer, chatTemplate } = info;
  return {
    name: info.name,
    model_id: info.modelId,
    file_bytes: fileBytes,
    parameters: parametersOf(info),
    quantization,
    operations: { version: opsVersion, hash: toHex(opsHash) },
    shape: {
      layers: sizes.layers,
      dim: sizes.dim,
      heads: sizes.heads,
      heads_kv: sizes.headsKv,
      head_dim: sizes.headDim,
      ffn_dim: sizes.ffnDim,
      vocabulary_size: sizes.vocabularySize,
      context_tokens_max: sizes.contextTokensMax,
      has_tied_embeddings: sizes.hasTiedEmbeddings,
      has_qkv_bias: sizes.hasQkvBias,
      has_qk_norm: sizes.hasQkNorm,
      norm_epsilon: normEpsilon,
      head_norm_epsilon: headNormEpsilon,
      rotary_pairs: turns.length,
    },
    tokenizer: {
      kind: tokenizer.model,
      pre: tokenizer.pre,
      tokens: tokenizer.tokens.length,
      merges: tokenizer.merges.length,
      bos: textOf(tokenizer.tokens, tokenizer.bosId),
      eos: textOf(tokenizer.tokens, tokenizer.eosId),
    },
    chat_template: chatTemplate,
    memory: {
      weight_bytes: weightBytes(shape, quantization),
      context_bytes_per_token: cacheBytesPerToken(shape),
    },
  };
}

function parametersOf({ manifest: { shape, quantization } }: ContainerInfo): number {
  return tensorsOf(shape).reduce((sum, { kind }) => {
    const { rows, columns, hasBias } = tensorExtent(shape, quantization, kind);
    return sum + rows * columns + (hasBias ? rows : 0);
  }, 0);
}

function textOf(tokens: readonly string[], id: number | null): string | null {
  return id === null ? null : (tokens[id] ?? null);
}

function rowsOf(facts: ReturnType<typeof factsOf>): (string | number)[][] {
  const { shape, tokenizer, memory, operations } = facts;
  const extras = [
    shape.has_tied_embeddings ? "output is the embedding" : "own output matrix",
    ...(shape.has_qkv_bias ? ["biases on q, k, v"] : []),
    ...(shape.has_qk_norm ? ["norms on q, k"] : []),
  ];
  const number = (value: number): string => value.toLocaleString("en");
  return [
    ["name", facts.name],
    ["identity", facts.model_id],
    ["file", bytesText(facts.file_bytes)],
    ["parameters", number(facts.parameters)],
    ["weights", `${facts.quantization}, ${bytesText(memory.weight_bytes)}`],
    ["operations", `version ${operations.version}`],
    ["layers", `${shape.layers} of width ${shape.dim}, feed-forward ${shape.ffn_dim}`],
    ["heads", `${shape.heads} of ${shape.head_dim}, ${shape.heads_kv} for keys and values`],
    ["details", extras.join(", ")],
    [
      "context",
      `${number(shape.context_tokens_max)} tokens, ${bytesText(memory.context_bytes_per_token)} each`,
    ],
    [
      "tokenizer",
      `${tokenizer.kind}${tokenizer.pre === null ? "" : ` (${tokenizer.pre})`}, ${number(tokenizer.tokens)} tokens, ${number(tokenizer.merges)} merges`,
    ],
    [
      "vocabulary",
      `${number(shape.vocabulary_size)} rows; begins ${tokenizer.bos ?? "–"}, ends ${tokenizer.eos ?? "–"}`,
    ],
    [
      "template",
      facts.chat_template === null
        ? "none: plain prompts only"
        : `${number(facts.chat_template.length)} characters`,
    ],
  ];
}
