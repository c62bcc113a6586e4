/** What the tests of the engine share: the demo model, requests and collectors. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type Emitted,
  type GenerateEvent,
  type GenerateRequest,
  greedySampling,
} from "../../protocol/generate.ts";
import { type Clock, systemClock } from "../../util/clock.ts";
import { silentLogger } from "../../util/log.ts";
import type { Engine } from "../port.ts";
import { createLlamaEngine, type LlamaEngineOptions } from "./index.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
export const tinyModel = join(root, "models", "tiny.Q8_0.gguf");
export const moduleFolder = join(root, "engines", "llama", "node_modules", "node-llama-cpp");

export function openEngine(
  options: Partial<LlamaEngineOptions> = {},
  clock: Clock = systemClock,
): ReturnType<typeof createLlamaEngine> {
  return createLlamaEngine(
    { clock, log: silentLogger },
    {
      modelPath: tinyModel,
      moduleFolder,
      contextTokens: null,
      parallel: 8,
      threads: 1,
      gpu: false,
      modelId: "tiny-id",
      name: "tiny",
      ...options,
    },
  );
}

let requests = 0;

export function ask(content: string, more: Partial<GenerateRequest> = {}): GenerateRequest {
  return {
    requestId: `test-${requests++}`,
    modelId: "tiny-id",
    prompt: { kind: "chat", messages: [{ role: "user", content }] },
    emitted: { tokenIds: [], text: "" },
    sampling: greedySampling,
    stop: [],
    outputTokensMax: 64,
    timeoutMs: 60_000,
    ...more,
  };
}

export interface Answer {
  readonly text: string;
  readonly tokenIds: readonly number[];
  readonly start: Extract<GenerateEvent, { type: "start" }>;
  readonly end: Extract<GenerateEvent, { type: "end" }>;
  readonly tokens: readonly Extract<GenerateEvent, { type: "tokens" }>[];
}

export async function collect(
  engine: Engine,
  request: GenerateRequest,
  signal: AbortSignal = AbortSignal.timeout(60_000),
): Promise<Answer> {
  const events: GenerateEvent[] = [];
  for await (const event of engine.generate(request, signal)) events.push(event);
  const tokens = events.filter((event) => event.type === "tokens");
  return {
    text: tokens.map(({ text }) => text).join(""),
    tokenIds: tokens.flatMap(({ tokenIds }) => tokenIds),
    start: events[0] as Answer["start"],
    end: events.at(-1) as Answer["end"],
    tokens,
  };
}

/** What a client has after the first `count` tokens of an answer. */
export function emittedAfter(answer: Answer, count: number): Emitted {
  const seen = answer.tokens.filter(({ position, tokenIds }) => position + tokenIds.length <= count);
  return {
    tokenIds: answer.tokenIds.slice(0, count),
    text: seen
      .filter(({ tokenIds }) => tokenIds.length > 0)
      .map(({ text }) => text)
      .join(""),
  };
}
