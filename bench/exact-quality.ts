/**
 * What the exact engine loses, beside llama.cpp with Q8_0, and with four bits beside Q4_0: against llama.cpp's own F32 logits on random models of every
 * family, and against the float model on held-out text, with and without the outliers of large models.
 *
 * Both demo models unless one is named: draft with its F16 weights and with outliers, and tiny, whose only weights are Q8_0.
 *
 *   npm run bench -- exact-quality [model.F16.gguf] [--quick]
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import Table from "cli-table3";
import { writeRandomGguf } from "../scripts/random-gguf.ts";
import type { Quantization } from "../src/exact/model/model.ts";
import type { ModelSource } from "../src/formats/model-source.ts";
import { type EvalRow, loadHeldOutRows } from "./lib/eval-text.ts";
import { openFloatParent } from "./lib/float-parent.ts";
import { openExact } from "./lib/exact-logits.ts";
import { type LlamaProcess, startLlama } from "./lib/llama-logits.ts";
import { withMassiveToken } from "./lib/massive-token.ts";
import { openModelFile, writeChangedModel } from "./lib/model-file.ts";
import { type ScaledOutlier, unevenScales, withScaledOutliers } from "./lib/outliers.ts";
import { type Comparison, compareRow, summarize } from "./lib/perplexity.ts";
import { microSpec, randomFamilies } from "./lib/random-model.ts";
import type { WeightType } from "./lib/weight-types.ts";

const quick = process.argv.includes("--quick");
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const named = process.argv.slice(2).find((arg) => !arg.startsWith("--"));
const modelPath = named ?? join(root, "models", "draft.F16.gguf");
/** Compared without outliers only; null: a model was named. */
const otherPath = named === undefined ? join(root, "models", "tiny.Q8_0.gguf") : null;
const signal = new AbortController().signal;
const contextTokens = 512;
const rowsMax = quick ? 40 : 180;
/** Rows that a massive token is made with; the same text serves as its test, which cannot flatter other engines. */
const sampleRowsMax = 24;
const plainTableStyle = { head: [], border: [] };

type Figures = Record<string, number>;

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

const familyTokens = Array.from({ length: 96 }, (_, i) => 4 + ((i * 7919) % 2040));
/** Every position counts. */
const familyRow: EvalRow = {
  id: "family",
  tokenIds: familyTokens,
  scored: familyTokens.slice(0, -1).map((_, position) => position),
};

/** Mean divergences from llama.cpp's F32 logits, of llama.cpp with Q8_0 weights and of the exact engine. */
async function compareFamilies(llama: LlamaProcess, folder: string): Promise<Figures> {
  const table = new Table({
    style: plainTableStyle,
    head: ["family", "Q8_0: divergence", "exact: divergence", "exact : Q8_0"],
  });
  const ratios: number[] = [];
  for (const family of randomFamilies) {
    const { dim, ffnDim, contextTokensMax, ...shape } = microSpec(family);
    const write = async (type: WeightType): Promise<string> => {
      const path = join(folder, `${family}.${type}.gguf`);
      const widths = { embedding: dim, feedForward: ffnDim, contextTokens: contextTokensMax };
      await writeRandomGguf(path, { ...shape, ...widths, type });
      return path;
    };
    const logitsOf = async (type: WeightType): Promise<Float32Array> => {
      const loaded = await llama.load(await write(type), { contextTokens });
      const logits = await loaded.logits(familyTokens);
      await loaded.close();
      return logits;
    };
    const reference = await logitsOf("F32");
    const exact = await openExact(await openModelFile(join(folder, `${family}.F32.gguf`)));
    const divergence = (logits: Float32Array): number => {
      const { divergence: sum, positions } = compareRow(familyRow, reference, logits);
      return sum / positions;
    };
    const [rival, own] = [divergence(await logitsOf("Q8_0")), divergence(await exact(familyTokens))];
    ratios.push(own / rival);
    table.push([family, rival.toExponential(2), own.toExponential(2), (own / rival).toFixed(2)]);
  }
  console.log("Random models of every family, divergence from llama.cpp with F32 weights (nats)");
  console.log(table.toString());
  return { familyDivergenceRatioWorst: rounded(Math.max(...ratios)) };
}

interface Variant {
  readonly name: string;
  readonly source: ModelSource;
}

async function outliersOf(plain: ModelSource, rows: readonly EvalRow[], imStart: number): Promise<Variant[]> {
  const scaled = (["H", "K", "V"] as const).map((kind: ScaledOutlier) => ({
    name: kind,
    source: withScaledOutliers(plain, [kind], unevenScales),
  }));
  const samples = rows.slice(0, sampleRowsMax).map(({ tokenIds }) => tokenIds);
  const massive = await withMassiveToken(plain, { tokenId: imStart, samples }, signal);
  return [...scaled, { name: "S", source: massive }];
}

/** Logits of one row after the other, compared with the reference's. */
async function compareRows(
  rows: readonly EvalRow[],
  references: readonly Float64Array[],
  logitsOf: (tokenIds: readonly number[]) => Promise<Float32Array>,
): Promise<Comparison> {
  const compared = [];
  for (const [i, row] of rows.entries()) {
    compared.push(compareRow(row, references[i]!, await logitsOf(row.tokenIds)));
  }
  return summarize(compared);
}

/** @param label in front of the figures' names */
async function compareModel(
  llama: LlamaProcess,
  folder: string,
  path: string,
  { label, hasOutliers }: { readonly label: string; readonly hasOutliers: boolean },
): Promise<Figures> {
  const original = await llama.load(path, { contextTokens });
  const rows = await loadHeldOutRows((text) => original.tokenize(text), rowsMax, contextTokens);
  const [imStart] = await original.tokenize("<|im_start|>");
  await original.close();
  const table = new Table({
    style: plainTableStyle,
    head: ["outliers", "engine", "perplexity", "of the float model's", "divergence", "same token"],
  });
  const figures: Figures = {};
  const plain = await openModelFile(path);
  const outliers = hasOutliers ? await outliersOf(plain, rows, imStart!) : [];
  for (const { name, source } of [{ name: "none", source: plain }, ...outliers]) {
    console.error(`${basename(path)}, outliers: ${name}`);
    const parent = await openFloatParent(source, signal);
    const references = rows.map((row) => parent.logits(row.tokenIds));
    const own = async (quantization: Quantization): Promise<Comparison> =>
      compareRows(rows, references, await openExact(source, quantization));
    const rival = async (type: WeightType): Promise<Comparison> => {
      const changed = join(folder, `${name}.${type}.gguf`);
      await writeChangedModel(changed, path, source, type);
      const loaded = await llama.load(changed, { contextTokens });
      const compared = await compareRows(rows, references, (tokens) => loaded.logits(tokens));
      await loaded.close();
      return compared;
    };
    const suffix = name === "none" ? "" : name;
    for (const [engine, prefix, compared] of [
      ["exact", "", await own("int8-row")],
      ["llama.cpp Q8_0", "Q8", await rival("Q8_0")],
      ["exact, 4 bits", "Int4", await own("int4-group32")],
      ["llama.cpp Q4_0", "Q4", await rival("Q4_0")],
    ] as const) {
      table.push([name, engine, ...cellsOf(compared)]);
      const key = `${label}${prefix}${suffix}`;
      figures[`perplexityLossPercent${key}`] = rounded((compared.perplexityRatio.value - 1) * 100);
      figures[`divergence${key}`] = rounded(compared.divergence.value);
      figures[`sameTokenPercent${key}`] = rounded(compared.agreement.value * 100);
    }
  }
  console.log(
    `${basename(path)} on ${rows.length} held-out texts; 95 % intervals from a bootstrap over them`,
  );
  console.log(table.toString());
  return { ...figures, [`rows${label}`]: rows.length };
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

const folder = await mkdtemp(join(tmpdir(), "skein-quality-"));
const llama = await startLlama();
try {
  const families = await compareFamilies(llama, folder);
  const main = await compareModel(llama, folder, modelPath, { label: "", hasOutliers: true });
  const other =
    otherPath === null
      ? {}
      : await compareModel(llama, folder, otherPath, { label: "Tiny", hasOutliers: false });
  const model = basename(modelPath);
  const rival = "llama.cpp Q8_0 and Q4_0";
  console.log(JSON.stringify({ model, rival, runs: 1, ...main, ...other, ...families }));
} finally {
  llama.close();
  await rm(folder, { recursive: true, force: true });
}
