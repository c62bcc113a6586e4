/** The conformance vectors in vectors/, reproduced where there is no file system. */
import { portableSha256 } from "../../../src/exact/commitment/portable-sha256.ts";
import type { Executor } from "../../../src/exact/executor.ts";
import { collectModel } from "../../../src/exact/model/sink.ts";
import { createReferenceExecutor } from "../../../src/exact/reference/executor.ts";
import { operationVectors } from "../../../src/exact/vectors/operations.suite.ts";
import { makePhiloxModel, type PhiloxModel } from "../../../src/exact/vectors/philox-model.suite.ts";
import { runTrace, type TraceRun } from "../../../src/exact/vectors/traces.suite.ts";
import { createWasmExecutor } from "../../../src/exact/wasm/executor.ts";
import { load } from "./answers.ts";

/** A file of vectors: operations, or the trace of a model. */
export interface VectorFile {
  readonly name: string;
  readonly text: string;
}

type Trace = TraceRun & ({ readonly model: PhiloxModel } | { readonly modelId: string });

/** Names of what is not as the files say. */
export async function wrongVectors(files: readonly VectorFile[], container: Uint8Array): Promise<string[]> {
  const wrong: string[] = [];
  for (const { name, text } of files) {
    const told = JSON.parse(text) as unknown;
    if (name === "operations.json") wrong.push(...wrongOperations(told as Record<string, unknown>));
    else wrong.push(...(await wrongTraces(name, told as Trace, container)));
  }
  return wrong;
}

function wrongOperations(told: Record<string, unknown>): string[] {
  const made: Record<string, unknown> = operationVectors();
  const names = new Set([...Object.keys(told), ...Object.keys(made)]);
  return [...names].filter((name) => JSON.stringify(told[name]) !== JSON.stringify(made[name]));
}

async function wrongTraces(name: string, told: Trace, container: Uint8Array): Promise<string[]> {
  const wrong: string[] = [];
  const { promptTokens, sampler, rows, execRoot, choices } = told;
  const options = {
    prompt: rows.slice(0, promptTokens).map(({ token }) => token),
    positions: rows.length,
    sampler,
    hasLeaves: rows[0]!.leaves !== undefined,
  };
  const expected = JSON.stringify({ promptTokens, sampler, rows, execRoot, choices });
  const check = (executor: Executor, by: string): void => {
    if (JSON.stringify(runTrace(executor, options)) !== expected) wrong.push(`${name} (${by})`);
  };
  if ("model" in told) {
    const collected = collectModel(told.model.shape);
    await makePhiloxModel(told.model, collected);
    check(createReferenceExecutor(collected.model()), "reference");
    const making = createWasmExecutor(told.model.shape);
    await makePhiloxModel(told.model, making.sink);
    check(making.executor(), "kernels");
  } else {
    const { modelId, executor } = await load(container, portableSha256);
    if (modelId !== told.modelId) wrong.push(`${name} (model's identity)`);
    check(executor, "kernels");
  }
  return wrong;
}
