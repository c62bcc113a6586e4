/** The files in vectors/, as the code makes them now. */
import { createHash } from "node:crypto";
import { toHex } from "../../util/bytes.ts";
import type { Executor } from "../executor.ts";
import { collectModel } from "../model/sink.ts";
import { opsHash } from "../ops/version.ts";
import { createReferenceExecutor } from "../reference/executor.ts";
import { createWasmExecutor } from "../wasm/executor.ts";
import { openDemo, runDemo } from "./demo.suite.ts";
import { operationVectors } from "./operations.suite.ts";
import { makePhiloxModel } from "./philox-model.suite.ts";
import { promptOf, runTrace, type TraceSpec, traceSpecs } from "./traces.suite.ts";

export type ExecutorName = "reference" | "wasm";

export function operationsFile(): string {
  return render(operationVectors());
}

export async function traceFile(spec: TraceSpec, by: ExecutorName): Promise<string> {
  const executor = await executorOf(spec, by);
  return render({ model: spec.model, ...runTrace(executor, { ...spec, prompt: promptOf(spec) }) });
}

async function executorOf({ model }: TraceSpec, by: ExecutorName): Promise<Executor> {
  if (by === "wasm") {
    const making = createWasmExecutor(model.shape);
    await makePhiloxModel(model, making.sink);
    return making.executor();
  }
  const collected = collectModel(model.shape);
  await makePhiloxModel(model, collected);
  return createReferenceExecutor(collected.model());
}

/** The demo model's trace by both executors; the model is converted once. */
export async function demoFiles(): Promise<Record<ExecutorName, string>> {
  const demo = await openDemo();
  const fileOf = (executor: Executor): string => {
    const run = runDemo(executor, demo);
    return render({
      file: demo.file,
      fileSha256: createHash("sha256").update(demo.fileBytes).digest("hex"),
      opsHash: toHex(opsHash),
      modelId: demo.modelId,
      text: demo.textOf(run.choices),
      ...run,
    });
  };
  return { reference: fileOf(demo.reference), wasm: fileOf(demo.wasm) };
}

/** All files by their names, as the reference makes them. */
export async function vectorFiles(): Promise<Map<string, string>> {
  const files = new Map([["operations.json", operationsFile()]]);
  for (const spec of traceSpecs) files.set(`trace-${spec.name}.json`, await traceFile(spec, "reference"));
  return files.set("trace-tiny.json", (await demoFiles()).reference);
}

/** JSON with one case a line. */
function render(vectors: object): string {
  const parts = Object.entries(vectors).map(([name, value]: [string, unknown]) => {
    const isList = Array.isArray(value) && typeof value[0] === "object";
    if (!isList) return ` ${JSON.stringify(name)}: ${JSON.stringify(value)}`;
    const lines = value.map((one) => `  ${JSON.stringify(one)}`).join(",\n");
    return ` ${JSON.stringify(name)}: [\n${lines}\n ]`;
  });
  return `{\n${parts.join(",\n")}\n}\n`;
}
