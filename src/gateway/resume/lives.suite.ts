/** Gateways that die and are followed by others on the same store, in time that passes by itself. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryStore } from "../../store/memory.ts";
import type { Store } from "../../store/port.ts";
import { SkeinError } from "../../util/errors.ts";
import { PassingTime, question, testGateway, type TestGateway } from "../fixture.suite.ts";
import { defaultLimits } from "../options.ts";

export const resume = { "x-skein-resume": "true" };
export const body = {
  ...question,
  seed: 3,
  temperature: 1,
  stream: true,
  stream_options: { include_usage: true },
};
export const provider = { msPerToken: 20, answerTokens: 100 };
export const limits = { ...defaultLimits, queueTimeoutMs: 3_000 };

/** A store that a process has in its hands until it is killed. */
class Handle implements Store {
  readonly #store: Store;
  isDead = false;
  isFull = false;

  constructor(store: Store) {
    this.#store = store;
  }
  get: Store["get"] = (key) => this.#store.get(key);
  scan: Store["scan"] = (scan) => this.#store.scan(scan);
  sweep: Store["sweep"] = (limit) => this.#store.sweep(limit);
  close: Store["close"] = () => this.#store.close();
  commit: Store["commit"] = (batch) => {
    if (this.isFull) return Promise.reject(new SkeinError("store_failed", "The disk is full."));
    return this.isDead ? new Promise(() => undefined) : this.#store.commit(batch);
  };
}

interface Gateway extends TestGateway {
  readonly handle: Handle;
}

class World {
  readonly time = new PassingTime();
  readonly store = new MemoryStore(this.time);
  #lives = 0;

  start(apiKeys: readonly string[] = []): Gateway {
    const handle = new Handle(this.store);
    // Each life draws ids of its own.
    this.#lives += 1;
    return { ...testGateway({ apiKeys, limits }, this.#lives, this.time, handle), handle };
  }

  async recordCount(): Promise<number> {
    return (await this.store.scan({ prefix: "resume/", limit: 1_000 })).length;
  }
}

export function inWorld(name: string, run: (world: World) => Promise<void>): void {
  test(name, async () => {
    const world = new World();
    try {
      await run(world);
    } finally {
      world.time.end();
    }
  });
}

/** Events of a response; at most `count`, then the client hangs up. */
export async function read(response: Response, count = Number.POSITIVE_INFINITY): Promise<string[]> {
  assert.equal(response.status, 200, response.status === 200 ? "" : await response.clone().text());
  const events: string[] = [];
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = ""; events.length < count;) {
    const { value, done } = await reader.read();
    if (done) return events;
    const parts = (part + value).split("\n\n");
    part = parts.pop()!;
    events.push(...parts);
  }
  await reader.cancel();
  return events.slice(0, count);
}

export const idOf = (response: Response): string => response.headers.get("x-request-id")!;
export const lastId = (events: readonly string[]): string => /^id: (.*)$/m.exec(events.at(-1)!)![1]!;
export const chunksOf = (events: readonly string[]) =>
  events.flatMap((event) => /^data: (\{.*)$/m.exec(event)?.[1] ?? []).map((data) => JSON.parse(data));

export function textsOf(events: readonly string[]): string[] {
  const texts: string[] = [];
  for (const { index, delta } of chunksOf(events).flatMap(({ choices }) => choices ?? [])) {
    texts[index] = (texts[index] ?? "") + (delta.content ?? "");
  }
  return texts;
}

export function rest(
  gateway: TestGateway,
  id: string,
  last: string | null,
  more: object = {},
): Promise<Response> {
  return gateway.get(`/v1/requests/${id}/events`, {
    ...(last === null ? {} : { "last-event-id": last }),
    ...more,
  });
}
