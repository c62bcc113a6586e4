/**
 * Audits of the float tier on the demo models: how often honest providers are flagged, and how many tokens it takes to
 * flag dishonest ones. Calibration and checks use different prompts, seeds, thread counts and batch sizes.
 * --quick: a tenth of the streams; --full: more than 10,000 honest ones (an hour or two on two cores);
 * --honest <n>: so many honest ones of each kind of sampling; --honest-only: no dishonest ones.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  limitsFor,
  limitsFrom,
  meanUpperBound,
  type SamplingClass,
  samplingClasses,
  samplingClassOf,
} from "../src/audit/calibration.ts";
import { flagAlpha, isFlagged, noEvidence, withMargins } from "../src/audit/evidence.ts";
import {
  honestMargins,
  samplingKinds,
  type Scoring,
  type StreamShape,
  streamRequest,
} from "../src/audit/honest-streams.ts";
import { createLlamaEngine } from "../src/engine/llama/index.ts";
import type { Engine } from "../src/engine/port.ts";
import type { GenerateRequest } from "../src/protocol/generate.ts";
import { systemClock } from "../src/util/clock.ts";
import { silentLogger } from "../src/util/log.ts";
import { type Random, seededRandom } from "../src/util/random.ts";
import { type Answerer, byAnother, drawnOtherwise, withSwaps } from "./lib/float-cheats.ts";
import { startLlama } from "./lib/llama-logits.ts";
import { openModelFile, writeChangedModel } from "./lib/model-file.ts";

const size = process.argv.includes("--quick") ? 0.1 : process.argv.includes("--full") ? 10 : 1;
/** For each kind of sampling. */
const calibrationStreams = Math.ceil(200 * size);
const honestAt = process.argv.indexOf("--honest");
const honestStreams = honestAt === -1 ? Math.ceil(160 * size) : Number(process.argv[honestAt + 1]);
const isHonestOnly = process.argv.includes("--honest-only");
/** Twenty providers' histories are put together from these in different orders. */
const cheatStreams = Math.ceil(60 * Math.min(3, size));
const histories = 20;
const answerTokensMax = 64;
const falseAlpha = 0.01;
const never = new AbortController().signal;
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const tiny = join(root, "models", "tiny.Q8_0.gguf");
const moduleFolder = join(root, "engines", "llama", "node_modules", "node-llama-cpp");
const kinds = Object.keys(samplingKinds);

function open(modelPath: string, threads: number, parallel: number): Promise<Engine> {
  const options = { modelPath, moduleFolder, contextTokens: null, parallel, threads, gpu: false as const };
  return createLlamaEngine(
    { clock: systemClock, log: silentLogger },
    { ...options, modelId: "bench", name: "bench" },
  );
}

// --- prompts ------------------------------------------------------------------------------------

const things = ["goose", "lantern", "mill", "storm", "baker", "river", "clock", "fox", "letter", "winter"];
const questions = (await readFile(join(root, "models", "eval.jsonl"), "utf8"))
  .split("\n")
  .filter((line) => line !== "")
  .map((line) => (JSON.parse(line) as { prompt: string }).prompt);

/** Calibration asks for stories and explanations, checks ask the held-out questions and for other stories. */
function contentOf(set: "calibration" | "check", i: number): string {
  const thing = things[i % things.length]!;
  const long = `There is much to say about the ${thing}. `.repeat((i % 5) * 3);
  if (set === "calibration") return `${long}Tell me about the ${thing}, and why it matters to people.`;
  if (i % 2 === 0) return questions[(i / 2) % questions.length]!;
  return `${long}Write a story in which a ${things[(i * 7 + 3) % things.length]} meets a ${thing}.`;
}

/** Tokens of the chat template around one question, so that every tool reads the same prompt. */
async function requestsOf(
  set: "calibration" | "check",
  kind: string,
  count: number,
  firstSeed: number,
): Promise<GenerateRequest[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const text = `<|im_start|>user\n${contentOf(set, i)}<|im_end|>\n<|im_start|>assistant\n`;
      const tokenIds = await reader.tokenize(text);
      return streamRequest({ kind: "tokens", tokenIds }, kind, firstSeed + i, answerTokensMax);
    }),
  );
}

// --- measuring ----------------------------------------------------------------------------------

interface Audited {
  readonly kind: string;
  readonly class: SamplingClass;
  readonly margins: readonly number[];
  /** Tokens that the auditor read at once; null: its own choice. */
  readonly chunkTokens: number | null;
}

async function measured(
  set: "calibration" | "check",
  count: number,
  engines: readonly { provider: Engine; shapes: readonly StreamShape[]; share: number }[],
  auditor: Scoring,
  firstSeed: number,
): Promise<Audited[]> {
  const all: Audited[] = [];
  for (const [k, kind] of kinds.entries()) {
    const requests = await requestsOf(set, kind, count, firstSeed + 100_000 * k);
    const streams: Audited[] = [];
    let at = 0;
    for (const { provider, shapes, share } of engines) {
      for (const shape of shapes) {
        const some = requests.slice(at, (at += Math.ceil((count * share) / shapes.length)));
        const margins = await honestMargins({ provider, auditor }, some, shape, { signal: never });
        streams.push(...margins.map((one) => auditedOf(kind, one, shape.chunkTokens)));
      }
    }
    all.push(...streams);
  }
  return all;
}

function auditedOf(kind: string, margins: readonly number[], chunkTokens: number | null): Audited {
  return { kind, class: samplingClassOf(samplingKinds[kind]!), margins, chunkTokens };
}

/** Share of tokens that are not the auditor's own. */
function otherTokens(audited: readonly Audited[]): number {
  const margins = audited.flatMap((one) => one.margins);
  return margins.filter((margin) => margin > 0).length / margins.length;
}

/** Whether this order of answers is flagged, and after how many tokens; null: never. */
function tokensToFlag(
  answers: readonly Audited[],
  calibration: ReturnType<typeof limitsFrom>,
  alpha: number,
): number | null {
  let evidence = noEvidence;
  for (const { margins, class: name } of answers) {
    const limits = limitsFor({ clips: calibration.clips, groups: calibration.summaries }, name);
    for (const margin of margins) {
      evidence = withMargins(evidence, [margin], limits);
      if (isFlagged(evidence, alpha)) return evidence.tokens;
    }
  }
  return null;
}

function shuffled<T>(values: readonly T[], random: Random): T[] {
  const order = values.map((value) => ({ value, key: random.next() }));
  return order.sort((a, b) => a.key - b.key).map(({ value }) => value);
}

const result: Record<string, number | string | null> = {};
const round = (value: number): number => Number(value.toPrecision(4));
const folder = await mkdtemp(join(tmpdir(), "skein-float-audit-"));
const logits = await startLlama();
const closing: (() => unknown)[] = [() => logits.close(), () => rm(folder, { recursive: true, force: true })];
const reader = await logits.load(tiny, { contextTokens: 512 });
const opened = async (path: string, threads: number, parallel: number): Promise<Engine> => {
  const engine = await open(path, threads, parallel);
  closing.unshift(() => engine.close());
  return engine;
};

try {
  const auditor = (await opened(tiny, 1, 1)) as Scoring & Engine;
  const single = await opened(tiny, 1, 8);
  const shapesOf = (parallels: readonly number[], chunks: readonly (number | null)[]): StreamShape[] =>
    parallels.flatMap((parallel) => chunks.map((chunkTokens) => ({ parallel, chunkTokens })));

  // 1. Calibration.
  const calibrating = await measured(
    "calibration",
    calibrationStreams,
    [{ provider: single, shapes: shapesOf([1, 8], [null, 16, 512]), share: 1 }],
    auditor,
    1,
  );
  const calibration = limitsFrom(
    samplingClasses.map((name) => ({
      name,
      streams: calibrating.filter((one) => one.class === name).map(({ margins }) => margins),
    })),
  );
  const { clips, summaries } = calibration;
  const calibrationTokens = summaries.reduce((sum, { tokens }) => sum + tokens, 0);
  console.log(`Calibration: ${calibrationStreams * kinds.length} answers, ${calibrationTokens} tokens`);
  console.log(`  clips ${clips.map((clip) => clip.toFixed(3)).join(" and ")} nats`);
  for (const { name, tokens, off, means, means_max: most } of summaries) {
    const scales = means.map((mean, i) => `${mean.toExponential(1)} (≤ ${most[i]!.toExponential(1)})`);
    console.log(
      `  ${name.padEnd(10)} ${String(tokens).padStart(7)} tokens, ${((100 * off) / tokens).toFixed(2).padStart(5)} % of them another token; mean by clip ${scales.join(", ")}`,
    );
    result[`${name}MeanMax`] = round(most[0]!);
    result[`${name}MeanMaxCoarse`] = round(most[1]!);
  }
  result["clip"] = round(clips[0]!);

  // 2. Honest providers: other prompts, seeds, thread counts, batches.
  const double = await opened(tiny, 2, 4);
  const honest = await measured(
    "check",
    honestStreams,
    [
      { provider: single, shapes: shapesOf([2, 5], [33, 100, 300]), share: 0.95 },
      { provider: double, shapes: shapesOf([3], [null, 200]), share: 0.05 },
    ],
    auditor,
    5_000_000,
  );
  const random = seededRandom(11);
  const alarms = honest.map((one) => (tokensToFlag([one], calibration, falseAlpha) === null ? 0 : 1));
  const falseAlarms = alarms.reduce<number>((a, b) => a + b, 0);
  const groupsOf20 = Array.from({ length: Math.floor(honest.length / 20) }, (_, i) => i * 20);
  const mixed = shuffled(honest, random);
  const falseHistories = groupsOf20.filter(
    (from) => tokensToFlag(mixed.slice(from, from + 20), calibration, falseAlpha) !== null,
  ).length;
  // The worst case for bounds that hold on average: a provider whose clients all use the same sampling.
  const falseByKind = kinds.filter(
    (kind) =>
      tokensToFlag(
        honest.filter((one) => one.kind === kind),
        calibration,
        falseAlpha,
      ) !== null,
  );
  const honestTokens = honest.reduce((sum, { margins }) => sum + margins.length, 0);
  const own = [...calibrating, ...honest].filter(({ chunkTokens }) => chunkTokens === null);
  console.log(
    `\nHonest: ${honest.length} answers, ${honestTokens} tokens; flagged at α = ${falseAlpha}: ${falseAlarms} answers, ${falseHistories} of ${groupsOf20.length} histories of 20 answers, ${falseByKind.length} of ${kinds.length} histories of one kind of sampling`,
  );
  console.log(
    `Other tokens of honest providers: ${(100 * otherTokens(honest)).toFixed(2)} %; where the auditor chooses how many tokens it reads at once: ${(100 * otherTokens(own)).toFixed(2)} %`,
  );
  Object.assign(result, {
    trials: honest.length,
    honestTokens,
    floatFalseRate: round(falseAlarms / honest.length),
    floatFalseRateUpper95: round(meanUpperBound(alarms, 0.05)),
    floatFalseHistories: falseHistories,
    histories: groupsOf20.length,
    floatFalseKinds: falseByKind.length,
    honestOtherTokens: round(otherTokens(honest)),
    honestOtherTokensOwnChunks: round(otherTokens(own)),
  });

  // 3. Dishonest ones.
  const requantised = join(folder, "tiny.Q4_0.gguf");
  await writeChangedModel(requantised, tiny, await openModelFile(tiny), "Q4_0");
  const draft = join(root, "models", "draft.F16.gguf");
  const cheats: readonly (readonly [name: string, what: string, answerer: Answerer])[] = [
    ["Draft", "a model of a fifth of the size", byAnother(await opened(draft, 1, 4))],
    ["Q4", "weights in 4 instead of 8 bits", byAnother(await opened(requantised, 1, 4))],
    ["Seed", "another seed", drawnOtherwise(single, ({ seed }) => ({ seed: seed + 1 }))],
    [
      "Temperature",
      "temperature higher by 0.1",
      drawnOtherwise(single, ({ temperature }) => ({ temperature: temperature + 0.1 })),
    ],
    ["Swap", "1 % of tokens replaced by a likely one", withSwaps(single, reader, 0.01, seededRandom(5))],
  ];
  if (!isHonestOnly)
    console.log(
      `\nTokens until a provider is flagged at α = ${flagAlpha}, over ${histories} orders of its answers:`,
    );
  for (const [name, what, answerer] of isHonestOnly ? [] : cheats) {
    const found: Audited[] = [];
    for (const [k, kind] of kinds.entries()) {
      // Greedy answers have no seed to be wrong.
      if (name === "Seed" && kind === "greedy") continue;
      const requests = await requestsOf("check", kind, cheatStreams, 9_000_000 + 100_000 * k);
      for (const [i, request] of requests.entries()) {
        const answer = await answerer(request);
        const chunkTokens = [null, 33, 300][i % 3]!;
        const { margins } = await auditor.score({ request, ...answer, chunkTokens }, never);
        found.push(auditedOf(kind, margins, chunkTokens));
      }
    }
    const tokens = found.reduce((sum, { margins }) => sum + margins.length, 0);
    const off = otherTokens(found);
    const needed = Array.from({ length: histories }, () =>
      tokensToFlag(shuffled(found, random), calibration, flagAlpha),
    )
      .filter((count) => count !== null)
      .sort((a, b) => a - b);
    const at = (q: number): number | null => needed[Math.ceil(q * histories) - 1] ?? null;
    const median = at(0.5);
    const answers = median === null ? null : Math.ceil(median / (tokens / found.length));
    console.log(
      `  ${what.padEnd(42)} ${median === null ? `not in half of the orders, within ${tokens}` : `${median} (median), ${at(0.9) ?? `more than ${tokens}`} (90 %), about ${answers} answers`}; ${(100 * off).toFixed(1)} % other tokens`,
    );
    result[`tokensToDetect${name}`] = median;
    result[`tokensToDetect${name}P90`] = at(0.9);
    result[`detected${name}`] = round(needed.length / histories);
    result[`tokensTried${name}`] = tokens;
    result[`otherTokens${name}`] = round(off);
  }
} finally {
  for (const close of closing) await close();
}
console.log(
  JSON.stringify({
    ...result,
    calibrationStreams: calibrationStreams * kinds.length,
    rival: "honest answers",
  }),
);
