/**
 * How far engines' logits are from those of the model as it was meant, computed in double precision: on random models of
 * every family, and on held-out text with a trained model, with and without outliers.
 *
 *   npm run bench -- fidelity [model.gguf] [--quick]
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Table from "cli-table3";
import { writeRandomGguf } from "../scripts/random-gguf.ts";
import type { ModelSource } from "../src/formats/model-source.ts";
import { type EvalRow, loadEvalRows } from "./lib/eval-text.ts";
import { openFloatParent } from "./lib/float-parent.ts";
import { demoModel } from "./lib/gguf-writer.ts";
import { type LlamaProcess, startLlama } from "./lib/llama-logits.ts";
import { withMassiveToken } from "./lib/massive-token.ts";
import { openModelFile, writeChangedModel } from "./lib/model-file.ts";
import { type ScaledOutlier, withScaledOutliers } from "./lib/outliers.ts";
import { type Comparison, compareRow, summarize } from "./lib/perplexity.ts";
import { microSpec, randomFamilies } from "./lib/random-model.ts";
import type { WeightType } from "./lib/weight-types.ts";

const quick = process.argv.includes("--quick");
const modelPath = process.argv.slice(2).find((arg) => !arg.startsWith("--")) ?? demoModel;
const signal = new AbortController().signal;
const contextTokens = 512;
const questionsPerRow = 4;
const rowsMax = quick ? 8 : 24;
/** Rows that a massive token is made with; the same text serves as its test, which cannot flatter other engines. */
const sampleRowsMax = 16;
const plainTableStyle = { head: [], border: [] };

/** Largest and root-mean-square differences, as parts of the reference's standard deviation. */
function relativeDifference(reference: Float64Array, other: Float32Array): { largest: number; rms: number } {
  let [largest, squares, sum, total] = [0, 0, 0, 0];
  for (let i = 0; i < reference.length; i++) {
    const error = Math.abs(reference[i]! - other[i]!);
    largest = Math.max(largest, error);
    squares += error ** 2;
    sum += reference[i]!;
    total += reference[i]! ** 2;
  }
  const spread = Math.sqrt(total / reference.length - (sum / reference.length) ** 2);
  return { largest: largest / spread, rms: Math.sqrt(squares / reference.length) / spread };
}

async function compareFamilies(llama: LlamaProcess, folder: string): Promise<Record<string, number>> {
  const types: readonly WeightType[] = quick ? ["F32", "Q8_0"] : ["F32", "F16", "BF16", "Q8_0"];
  const table = new Table({
    style: plainTableStyle,
    head: ["family", ...types.map((type) => `${type}: largest, rms`)],
  });
  const worst: Record<string, number> = {};
  const tokens = Array.from({ length: 96 }, (_, i) => 4 + ((i * 7919) % 2040));
  for (const family of randomFamilies) {
    const cells: string[] = [];
    for (const type of types) {
      const { dim, ffnDim, contextTokensMax, ...shape } = microSpec(family);
      const path = join(folder, `${family}.${type}.gguf`);
      const model = await writeRandomGguf(path, {
        ...shape,
        type,
        embedding: dim,
        feedForward: ffnDim,
        contextTokens: contextTokensMax,
      });
      const loaded = await llama.load(path, { contextTokens });
      const reference = (await openFloatParent(model, signal)).logits(tokens);
      const { largest, rms } = relativeDifference(reference, await loaded.logits(tokens));
      await loaded.close();
      cells.push(`${largest.toExponential(1)}, ${rms.toExponential(1)}`);
      worst[type] = Math.max(worst[type] ?? 0, largest);
    }
    table.push([family, ...cells]);
  }
  console.log("llama.cpp against double precision on random models, in standard deviations of the logits");
  console.log(table.toString());
  return worst;
}

interface Variant {
  readonly name: string;
  readonly source: ModelSource;
}

async function variantsOf(rows: readonly EvalRow[], imStart: number): Promise<Variant[]> {
  const plain = await openModelFile(modelPath);
  const scaled = (["H", "K", "V"] as const).map((kind: ScaledOutlier) => ({
    name: kind,
    source: withScaledOutliers(plain, [kind]),
  }));
  const samples = rows.slice(0, sampleRowsMax).map(({ tokenIds }) => tokenIds);
  const massive = await withMassiveToken(plain, { tokenId: imStart, samples }, signal);
  return [{ name: "plain", source: plain }, ...scaled, { name: "S", source: massive }];
}

/** Logits of one row after the other, compared with the reference's. */
async function compareRows(
  rows: readonly EvalRow[],
  references: readonly Float64Array[],
  logitsOf: (tokenIds: readonly number[]) => Promise<Float32Array> | Float64Array,
): Promise<Comparison> {
  const compared = [];
  for (const [i, row] of rows.entries()) {
    compared.push(compareRow(row, references[i]!, await logitsOf(row.tokenIds)));
  }
  return summarize(compared);
}

async function compareOutliers(llama: LlamaProcess, folder: string): Promise<Record<string, number>> {
  const original = await llama.load(modelPath, { contextTokens });
  const rows = await loadEvalRows((text) => original.tokenize(text), {
    questionsPerRow,
    answersOnly: false,
    rowsMax,
  });
  const [imStart] = await original.tokenize("<|im_start|>");
  await original.close();
  const table = new Table({
    style: plainTableStyle,
    head: ["outliers", "engine, weights", "perplexity", "of reference's", "divergence", "same token"],
  });
  const figures: Record<string, number> = {};
  for (const { name, source } of await variantsOf(rows, imStart!)) {
    const parent = await openFloatParent(source, signal);
    const references = rows.map((row) => parent.logits(row.tokenIds));
    for (const type of ["F16", "Q8_0"] as const) {
      const path = join(folder, `${name}.${type}.gguf`);
      await writeChangedModel(path, modelPath, source, type);
      const rounded = await openFloatParent(await openModelFile(path), signal);
      const loaded = await llama.load(path, { contextTokens, cacheType: "F16" });
      const engines = [
        {
          engine: "double",
          compared: await compareRows(rows, references, (tokens) => rounded.logits(tokens)),
        },
        {
          engine: "llama.cpp",
          compared: await compareRows(rows, references, (tokens) => loaded.logits(tokens)),
        },
      ];
      await loaded.close();
      for (const { engine, compared } of engines) {
        table.push([name, `${engine}, ${type}`, ...cellsOf(compared)]);
        figures[`${name}.${engine}.${type}`] = Number((compared.perplexityRatio.value - 1).toPrecision(3));
      }
    }
  }
  console.log(
    `${modelPath} on ${rows.length} held-out conversations; 95 % intervals from a bootstrap over them`,
  );
  console.log(table.toString());
  return figures;
}

function cellsOf({ perplexity, perplexityRatio, divergence, agreement }: Comparison): string[] {
  const ratio = [perplexityRatio.value, perplexityRatio.low, perplexityRatio.high].map((x) => x.toFixed(5));
  const same = [agreement.value, agreement.low, agreement.high].map((x) => `${(x * 100).toFixed(2)} %`);
  return [
    perplexity.value.toFixed(4),
    `${ratio[0]} (${ratio[1]}…${ratio[2]})`,
    `${divergence.value.toExponential(2)} (…${divergence.high.toExponential(2)})`,
    `${same[0]} (${same[1]}…)`,
  ];
}

const folder = await mkdtemp(join(tmpdir(), "skein-fidelity-"));
const llama = await startLlama();
try {
  const families = await compareFamilies(llama, folder);
  const outliers = await compareOutliers(llama, folder);
  console.log(JSON.stringify({ bench: "fidelity", families, outliers, quick: quick ? 1 : 0 }));
} finally {
  llama.close();
  await rm(folder, { recursive: true, force: true });
}
