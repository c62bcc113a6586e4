/**
 * What a form costs: milliseconds per token of answers that must match a JSON schema, against free text of the same
 * model in the same run, what functions cost that may be called and are not, and what log probabilities cost. Both engines, the demo model, one answer at a time and four.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import Table from "cli-table3";
import { convertFile } from "../src/engine/exact/convert.ts";
import { createExactEngine } from "../src/engine/exact/index.ts";
import { createLlamaEngine } from "../src/engine/llama/index.ts";
import type { Engine } from "../src/engine/port.ts";
import { jsonSchemaGrammar } from "../src/grammar/json-schema.ts";
import { toolCallGrammar } from "../src/grammar/tool-calls.ts";
import { type GenerateRequest, greedySampling } from "../src/protocol/generate.ts";
import { systemClock } from "../src/util/clock.ts";
import { silentLogger } from "../src/util/log.ts";

const isQuick = process.argv.includes("--quick");
const runs = isQuick ? 3 : 9;
const outputTokensMax = isQuick ? 64 : 160;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modelPath = join(root, "models", "tiny.Q8_0.gguf");
const folder = mkdtempSync(join(tmpdir(), "skein-bench-"));
const never = new AbortController().signal;

/** More items than fit, so that no answer ends before its last token. */
const schema = {
  type: "array",
  minItems: 500,
  items: {
    type: "object",
    properties: {
      name: { type: "string", maxLength: 24 },
      age: { type: "integer", minimum: 0, maximum: 120 },
      mood: { enum: ["happy", "sad", "sleepy"] },
      nearby: { type: "boolean" },
    },
    required: ["name", "age", "mood", "nearby"],
  },
};
const functions = [{ name: "describe", parameters: schema.items, isStrict: true }];
const mayCall = toolCallGrammar({ functions, isRequired: false, isParallel: true }, "hermes", null)!;
const kinds = {
  free: {},
  tools: { constraint: { grammar: mayCall, responseFormat: null } },
  structured: { constraint: { grammar: jsonSchemaGrammar(schema), responseFormat: null } },
  logprobs: { logprobs: 5 },
} satisfies Record<string, Partial<GenerateRequest>>;
type Kind = keyof typeof kinds;

/** Milliseconds of decoding per token of one answer. */
async function answer(engine: Engine, kind: Kind, seed: number): Promise<number> {
  const request: GenerateRequest = {
    requestId: "bench",
    modelId: engine.model.modelId,
    prompt: { kind: "text", text: "Once upon a time there was a fox. It" },
    emitted: { tokenIds: [], text: "" },
    sampling: { ...greedySampling, temperature: 0.8, seed },
    stop: [],
    constraint: null,
    logprobs: null,
    outputTokensMax,
    timeoutMs: 600_000,
    ...kinds[kind],
  };
  for await (const event of engine.generate(request, never)) {
    if (event.type === "end") return event.timings.decodeMs / Math.max(1, event.outputTokens - 1);
  }
  throw new Error("an answer had no end");
}

/** Median per token when `together` answers run at a time. */
async function measure(engine: Engine, together: number): Promise<Record<Kind, number>> {
  const names = Object.keys(kinds) as Kind[];
  const samples: Record<Kind, number[]> = { free: [], tools: [], structured: [], logprobs: [] };
  for (const kind of names) await answer(engine, kind, 0);
  for (let run = 1; run <= runs; run++) {
    for (const kind of names) {
      const seeds = Array.from({ length: together }, (_, i) => run * together + i);
      samples[kind].push(...(await Promise.all(seeds.map((seed) => answer(engine, kind, seed)))));
    }
  }
  return {
    free: median(samples.free),
    tools: median(samples.tools),
    structured: median(samples.structured),
    logprobs: median(samples.logprobs),
  };
}

const exactPath = join(folder, "tiny.skein");
await convertFile(modelPath, exactPath, { signal: never });
const deps = { clock: systemClock, log: silentLogger };
const common = { contextTokens: 512, parallel: 4, threads: 1 };
const engines: Record<string, Engine> = {
  exact: await createExactEngine(deps, { ...common, modelPath: exactPath, name: null }),
  llama: await createLlamaEngine(deps, {
    ...common,
    modelPath,
    moduleFolder: join(root, "engines", "llama", "node_modules", "node-llama-cpp"),
    gpu: false,
    modelId: "tiny",
    name: "tiny",
  }),
};
const result: Record<string, number | string> = { bench: "structured", runs, tokens: outputTokensMax };
const table = new Table({
  head: ["engine", "answers at a time", "free ms/token", "tools", "structured", "logprobs"],
});
try {
  for (const [name, engine] of Object.entries(engines)) {
    for (const together of [1, 4]) {
      const { free, tools, structured, logprobs } = await measure(engine, together);
      const key = `${name}_${together}`;
      result[`${key}_free_ms_per_token`] = round(free);
      result[`${key}_tools_ratio`] = round(tools / free);
      result[`${key}_structured_ratio`] = round(structured / free);
      result[`${key}_logprobs_ratio`] = round(logprobs / free);
      const ratios = [tools, structured, logprobs].map((value) => `${round(value / free)}×`);
      table.push([name, together, round(free), ...ratios]);
    }
  }
} finally {
  await Promise.all(Object.values(engines).map((engine) => engine.close()));
  rmSync(folder, { recursive: true, force: true });
}
console.log(table.toString());
console.log(JSON.stringify(result));

function round(value: number): number {
  return Number(value.toFixed(3));
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
