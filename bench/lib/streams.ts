/** Several streams at once through an engine, and through the bare loop over node-llama-cpp: how fast both decode. */
import { type ChildProcess, fork } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type RandomGgufShape, writeRandomGguf } from "../../scripts/random-gguf.ts";
import type { LlamaLoadOptions } from "../../src/engine/llama/messages.ts";
import type { Engine } from "../../src/engine/port.ts";
import { type GenerateRequest, greedySampling } from "../../src/protocol/generate.ts";
import type { RivalReply, RivalTask } from "../batching-rival.ts";
import { type Mark, markNow } from "./mark.ts";

export const rivalName = "engine alone (bare loop over node-llama-cpp 3.22.1's inner context)";

const benchFolder = dirname(dirname(fileURLToPath(import.meta.url)));

/** Where benchmarks keep the models they make. */
export const modelFolder: string = join(tmpdir(), "skein-bench");

/** Path of a model with random weights, made where it is missing. */
export async function randomModelFile(name: string, shape: RandomGgufShape): Promise<string> {
  const path = join(modelFolder, `${name}-${shape.seed}.${shape.type}.gguf`);
  if (!existsSync(path)) {
    await mkdir(modelFolder, { recursive: true });
    await writeRandomGguf(path, shape);
  }
  return path;
}

/** Different prompts of the same length, from plain tokens. */
export function promptOf(run: number, stream: number, length: number): number[] {
  return Array.from({ length }, (_, i) => 300 + ((i * 37 + stream * 101 + run * 53) % 1000));
}

/** Tokens per second. */
export interface Rate {
  readonly wall: number;
  /** Per second of CPU time of the whole process. */
  readonly cpu: number;
}

/** Once every stream decodes: counted from the last first token to the end. */
function rateOf({ first, tokens }: RivalReply): Rate {
  const start = first.reduce((last, mark) => (mark.wallMs > last.wallMs ? mark : last));
  const end = tokens.reduce((last, mark) => (mark.wallMs > last.wallMs ? mark : last));
  const count = tokens.filter(({ wallMs }) => wallMs > start.wallMs).length;
  return {
    wall: count / ((end.wallMs - start.wallMs) / 1000),
    cpu: count / ((end.cpuMs - start.cpuMs) / 1000),
  };
}

/** All prompts at once through an engine in this process. */
export async function engineRate(engine: Engine, { prompts, outputTokens }: RivalTask): Promise<Rate> {
  const first: Mark[] = [];
  const tokens: Mark[] = [];
  await Promise.all(
    prompts.map(async (prompt, stream) => {
      let seen = false;
      const asked = request(`${stream}`, prompt, outputTokens);
      for await (const event of engine.generate(asked, AbortSignal.timeout(600_000))) {
        if (event.type !== "tokens") continue;
        const mark = markNow();
        if (!seen) first.push(mark);
        seen = true;
        for (let i = 0; i < event.tokenCount; i++) tokens.push(mark);
      }
    }),
  );
  return rateOf({ first, tokens });
}

export function request(
  requestId: string,
  tokenIds: readonly number[],
  outputTokensMax: number,
): GenerateRequest {
  return {
    requestId,
    modelId: "bench",
    prompt: { kind: "tokens", tokenIds },
    emitted: { tokenIds: [], text: "" },
    sampling: greedySampling,
    stop: [],
    constraint: null,
    logprobs: null,
    outputTokensMax,
    timeoutMs: 600_000,
  };
}

/** The bare loop in a process of its own. */
export function startRival(load: LlamaLoadOptions): ChildProcess {
  return fork(join(benchFolder, "batching-rival.ts"), [JSON.stringify(load)], {
    serialization: "advanced",
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
}

export function rivalRate(rival: ChildProcess, task: RivalTask): Promise<Rate> {
  return new Promise((resolve, reject) => {
    const onExit = (): void => reject(new Error("the rival's process ended"));
    rival.once("exit", onExit);
    rival.once("message", (reply: RivalReply) => {
      rival.off("exit", onExit);
      resolve(rateOf(reply));
    });
    rival.send(task);
  });
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
