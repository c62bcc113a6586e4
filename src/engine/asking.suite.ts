/** Requests to engines with the demo model, and what comes back. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Emitted,
  type GenerateEvent,
  type GenerateRequest,
  greedySampling,
} from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import type { Engine, EngineStatus } from "./port.ts";

let requests = 0;

export function ask(content: string, more: Partial<GenerateRequest> = {}): GenerateRequest {
  return {
    requestId: `test-${requests++}`,
    modelId: "tiny-id",
    prompt: { kind: "chat", messages: [{ role: "user", content }] },
    emitted: { tokenIds: [], text: "" },
    sampling: greedySampling,
    stop: [],
    constraint: null,
    logprobs: null,
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

export function code(...expected: string[]): (error: unknown) => boolean {
  return (error) => error instanceof SkeinError && expected.includes(error.code);
}

export async function nextStatus(engine: Engine, state: EngineStatus["state"]): Promise<EngineStatus> {
  const { promise, resolve } = Promise.withResolvers<EngineStatus>();
  const unsubscribe = engine.onStatus((status) => {
    if (status.state === state) resolve(status);
  });
  try {
    return await Promise.race([
      promise,
      sleep(20_000, null, { ref: false }).then(() => assert.fail(`never became ${state}`)),
    ]);
  } finally {
    unsubscribe();
  }
}

export async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (condition()) return;
    await sleep(10);
  }
  assert.fail(`waited in vain for: ${what}`);
}
