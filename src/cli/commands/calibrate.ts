import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { Command } from "commander";
import {
  type CalibrationRecord,
  calibrationRecord,
  type SamplingClass,
  samplingClasses,
  samplingClassOf,
} from "../../audit/calibration.ts";
import { honestMargins, samplingKinds, type StreamShape, streamRequest } from "../../audit/honest-streams.ts";
import { modelIdOfGguf } from "../../engine/gguf/identity.ts";
import { inspectGguf } from "../../engine/gguf/inspect.ts";
import type { Prompt } from "../../protocol/generate.ts";
import { systemClock } from "../../util/clock.ts";
import { printableJson } from "../../util/printable.ts";
import { contextOf } from "../context.ts";
import { requireLlamaEngine } from "../engine-install.ts";
import { stopSignal } from "../foreground.ts";
import { createProgress, type Progress } from "../progress.ts";
import { calibrationFile, identityCacheFolder, threadsOf } from "../provider-config.ts";
import { openScoringEngine, type ScoringEngine } from "../scoring-engine.ts";
import { seconds, step, table } from "../terminal.ts";

/** Requests together, and tokens that the auditor reads at once: whatever makes kernels take another path. */
const parallels = [1, 8];
const chunks = [null, 16, 512];
/** The bound on the honest mean falls with the tokens of each kind: these give about 0.001. */
const streamsDefault = 700;
const answerTokensDefault = 128;
/** Read before every other question: long prompts take other kernels than short ones. */
const preamble =
  "Answer as well as you can. Be friendly, be brief, and say so when you do not know. The person who asks may be young or old, may write in a hurry, and may not know the right words; find out what is meant. Use plain words and short sentences. Give an example where it helps. Do not invent names, numbers or dates. If the question has more than one part, answer every part in turn, and end when all is said.";
/** Questions of many kinds; answers may make no sense, as long as they are the model's own. */
const questions = [
  "Tell me a story about a fox and a lighthouse.",
  "What is 17 + 25?",
  "Explain how bread is made.",
  "Write four lines about autumn.",
  "Why is the sky blue?",
  "List five animals that live in the sea.",
  "Translate 'good morning' into French and Spanish.",
  "Write a function that reverses a string.",
  "What should I pack for a week in the mountains?",
  "Who lives in the old mill, and what do they want?",
];

type Shape = StreamShape & { readonly threads: number };

/** `skein calibrate`: what honest answers of a model look like to an auditor on this runtime. */
export async function calibrate(command: Command): Promise<void> {
  const context = contextOf(command);
  const { flags, home, settings } = context;
  const startMs = performance.now();
  const signal = stopSignal();
  const modelPath = resolve(flags["model"] as string);
  const moduleFolder = requireLlamaEngine(home);
  const info = await inspectGguf(modelPath);
  const modelId = await modelIdOfGguf(modelPath, { cacheFolder: identityCacheFolder(home), signal });
  const threadCounts = [...new Set([1, threadsOf(settings.threads)])];
  const shapes = threadCounts.flatMap((threads) =>
    parallels.flatMap((parallel) => chunks.map((chunkTokens) => ({ threads, parallel, chunkTokens }))),
  );
  const wishes = { modelPath, modelId, contextTokens: settings.context, parallel: Math.max(...parallels) };
  // 1. Answers, and their margins.
  const progress = createProgress("generating and scoring honest answers");
  const { margins, backend } = await measure({
    progress,
    shapes,
    streams: (flags["streams"] as number | undefined) ?? streamsDefault,
    outputTokensMax: (flags["maxTokens"] as number | undefined) ?? answerTokensDefault,
    hasTemplate: info.chatTemplate !== null,
    signal,
    openEngine: (threads) => openScoringEngine(context, { ...wishes, threads }),
  }).finally(() => progress.end());
  // 2. The record.
  const record = calibrationRecord(
    samplingClasses.map((name) => ({ name, streams: margins.get(name) ?? [] })),
    {
      model_id: modelId,
      runtime: runtimeOf(moduleFolder, backend),
      shapes: shapes.map(shapeText),
      created_at: new Date(systemClock.nowMs()).toISOString(),
    },
  );
  const { output } = flags;
  const file = typeof output === "string" ? resolve(output) : calibrationFile(home, modelId);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(record, null, 2)}\n`);
  if (flags["json"] === true) console.log(printableJson({ file, ...record }));
  else tell(record, file, seconds(startMs));
}

interface Measurement {
  readonly progress: Progress;
  readonly shapes: readonly Shape[];
  readonly streams: number;
  readonly outputTokensMax: number;
  readonly hasTemplate: boolean;
  readonly signal: AbortSignal;
  openEngine(threads: number): Promise<ScoringEngine>;
}

/** Margins of honest answers by class; every shape gets its part of every kind of sampling. */
async function measure(
  plan: Measurement,
): Promise<{ margins: Map<SamplingClass, number[][]>; backend: string }> {
  const { shapes, signal } = plan;
  const kinds = Object.entries(samplingKinds);
  const perKind = Math.ceil(plan.streams / kinds.length);
  const margins = new Map<SamplingClass, number[][]>();
  let backend = "";
  let done = 0;
  const onScored = (): void => plan.progress.show(++done, perKind * kinds.length);
  for (const threads of new Set(shapes.map((shape) => shape.threads))) {
    const engine = await plan.openEngine(threads);
    backend = engine.backend;
    try {
      for (const [i, shape] of shapes.entries()) {
        if (shape.threads !== threads) continue;
        for (const [kind, sampling] of kinds) {
          const requests = seedsOf(i, shapes.length, perKind).map((seed) =>
            streamRequest(promptOf(plan.hasTemplate, seed), kind, seed, plan.outputTokensMax),
          );
          const engines = { provider: engine, auditor: engine };
          const found = await honestMargins(engines, requests, shape, { signal, onScored });
          const name = samplingClassOf(sampling);
          margins.set(name, [...(margins.get(name) ?? []), ...found]);
        }
      }
    } finally {
      await engine.close();
    }
  }
  return { margins, backend };
}

function shapeText({ threads, parallel, chunkTokens }: Shape): string {
  return `${threads} threads, ${parallel} requests, chunks of ${chunkTokens ?? "the engine's choice"}`;
}

/** Every shape its own seeds, so that no answer counts twice. */
function seedsOf(shape: number, shapes: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1).filter((seed) => seed % shapes === shape);
}

function promptOf(hasTemplate: boolean, seed: number): Prompt {
  const question = questions[seed % questions.length]!;
  const content = seed % 2 === 0 ? question : `${preamble}\n\n${question}`;
  return hasTemplate
    ? { kind: "chat", messages: [{ role: "user", content }] }
    : { kind: "text", text: `${content}\n` };
}

/** Another version, backend or processor rounds otherwise. */
function runtimeOf(moduleFolder: string, backend: string): string {
  const read = (...path: string[]): Record<string, unknown> =>
    JSON.parse(readFileSync(join(moduleFolder, ...path), "utf8")) as Record<string, unknown>;
  const version = String(read("package.json")["version"]);
  const release = String(read("llama", "binariesGithubRelease.json")["release"]);
  const processor = cpus()[0]?.model.trim() ?? "unknown processor";
  return `node-llama-cpp ${version}, llama.cpp ${release}, ${backend}, ${process.platform}-${process.arch}, ${processor}`;
}

function tell(record: CalibrationRecord, file: string, took: string): void {
  const { groups, clips, streams, tokens } = record;
  const rows = groups.map(({ name, tokens: n, off, means, means_max: most }) => [
    name,
    n,
    `${((100 * off) / n).toFixed(2)} %`,
    ...clips.map((_, i) => `${means[i]!.toExponential(1)} (≤ ${most[i]!.toExponential(1)})`),
  ]);
  const heads = clips.map((clip) => `mean of margin / ${clip.toFixed(3)} nats`);
  console.log(table(["sampling", "tokens", "another token", ...heads], rows));
  console.log(`\n≤: upper bounds that hold together with ${100 * record.confidence} %`);
  step("done", `${file}: ${streams} answers, ${tokens} tokens (${took})`);
}
