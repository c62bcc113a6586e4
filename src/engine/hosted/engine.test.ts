/** Restarts and hangs of any host, over one that does what the test says. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { GenerateEvent } from "../../protocol/generate.ts";
import { ManualClock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import { silentLogger } from "../../util/log.ts";
import { ask, code, collect } from "../asking.suite.ts";
import type { EngineModel, EngineStatus } from "../port.ts";
import { createHostedEngine, type Host, type HostEvents } from "./engine.ts";
import type { ToHost } from "./messages.ts";

const model: EngineModel = {
  modelId: "fake",
  name: "fake",
  contextTokensMax: 64,
  parallelMax: 1,
  trustTier: "float",
  resumable: true,
  features: [],
};
const end: GenerateEvent = {
  type: "end",
  finishReason: "stop",
  promptTokens: 1,
  outputTokens: 0,
  timings: { queueMs: 0, prefillMs: 0, decodeMs: 0 },
};

async function setup() {
  const clock = new ManualClock();
  const hosts: { events: HostEvents; sent: ToHost[]; isClosed: boolean; isKilled: boolean }[] = [];
  let failing: SkeinError | null = null;
  let answers = true;
  const engine = await createHostedEngine(
    { clock, log: silentLogger },
    {
      kind: "llama",
      canScore: true,
      model: () => model,
      async start(events): Promise<Host> {
        if (failing !== null) throw failing;
        const host = { events, sent: [] as ToHost[], isClosed: false, isKilled: false };
        hosts.push(host);
        return {
          send(message) {
            host.sent.push(message);
            if (message.type === "cancel" && answers) events.onMessage({ type: "cancelled", id: message.id });
            if (message.type !== "generate" || !answers) return;
            const start = { type: "start", promptTokens: 1, cachedTokens: 0 } as const;
            events.onMessage({
              type: "step",
              events: [
                [message.id, start],
                [message.id, end],
              ],
            });
          },
          kill() {
            host.isKilled = true;
            events.onExit("it was killed");
          },
          async close() {
            host.isClosed = true;
          },
        };
      },
    },
  );
  const seen: EngineStatus["state"][] = [];
  engine.onStatus(({ state }) => seen.push(state));
  return {
    clock,
    engine,
    hosts,
    seen,
    fail: (error: SkeinError | null) => (failing = error),
    hang: () => (answers = false),
    /** Lets what was scheduled and what it waits for happen. */
    pass: async (ms: number): Promise<void> => {
      clock.advance(ms);
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

test("a host that ends comes back, and requests meanwhile are refused", async () => {
  const { engine, hosts, pass, seen } = await setup();
  await collect(engine, ask("x"));
  hosts[0]!.events.onExit("it fell over");
  assert.deepEqual(engine.status(), { state: "restarting", reason: "it fell over" });
  await assert.rejects(collect(engine, ask("x")), code("engine_unavailable"));
  await pass(250);
  assert.deepEqual(seen, ["restarting", "ready"]);
  await collect(engine, ask("x"));
  await engine.close();
  assert.ok(hosts[1]!.isClosed);
});

test("waits grow; after too many failures in a row it is given up", async () => {
  const { engine, hosts, pass, fail, seen } = await setup();
  fail(new SkeinError("engine_unavailable", "no memory"));
  hosts[0]!.events.onExit("it fell over");
  for (let i = 0; i < 20 && engine.status().state !== "failed"; i++) await pass(30_000);
  assert.deepEqual(engine.status(), { state: "failed", reason: "no memory" });
  assert.equal(seen.filter((state) => state === "restarting").length, 8);
  assert.equal(hosts.length, 1);
  await engine.close();
});

test("failures long ago do not count", async () => {
  const { engine, hosts, pass } = await setup();
  for (let i = 0; i < 20; i++) {
    hosts.at(-1)!.events.onExit("it fell over");
    await pass(250);
    assert.equal(engine.status().state, "ready");
    await pass(61_000);
  }
  await engine.close();
});

test("silence while somebody waits is a hang; silence of an idle host is not", async () => {
  const { engine, hosts, pass, hang } = await setup();
  await pass(600_000);
  assert.ok(!hosts[0]!.isKilled);
  hang();
  const failed = assert.rejects(collect(engine, ask("x")), code("engine_failed"));
  for (let i = 0; i < 30; i++) await pass(5_000);
  await failed;
  assert.ok(hosts[0]!.isKilled);
  await engine.close();
});

const text = { kind: "text", text: "x" } as const;
const never = new AbortController().signal;

test("a hang is noticed when only counts wait, and when nobody waits for them any more", async () => {
  for (const isPatient of [true, false]) {
    const { engine, hosts, pass } = await setup();
    await pass(600_000);
    const abort = new AbortController();
    const counting = assert.rejects(
      engine.countPromptTokens(text, abort.signal),
      code(isPatient ? "engine_failed" : "cancelled"),
    );
    await pass(110_000);
    assert.ok(!hosts[0]!.isKilled);
    if (!isPatient) abort.abort();
    await pass(20_000);
    await counting;
    assert.ok(hosts[0]!.isKilled);
    await engine.close();
  }
});

test("a hang is noticed although all askers gave up, however many follow and give up, too", async () => {
  const { engine, hosts, pass, hang } = await setup();
  // A host that works lets go of what was cancelled; silence afterwards is that of an idle one.
  const gaveUp = async (waitMs: number): Promise<void> => {
    const abort = new AbortController();
    const asking = assert.rejects(
      collect(engine, ask("x"), abort.signal),
      code("cancelled", "engine_failed", "engine_unavailable"),
    );
    await pass(0);
    await pass(waitMs);
    abort.abort();
    await asking;
  };
  hang();
  await gaveUp(1_000);
  const { id } = hosts[0]!.sent.find(({ type }) => type === "cancel") as { id: number };
  hosts[0]!.events.onMessage({ type: "cancelled", id });
  for (let i = 0; i < 60; i++) await pass(5_000);
  assert.ok(!hosts[0]!.isKilled);
  // One that hangs does not: every asker loses patience long before it may be called a hang.
  for (let i = 0; i < 3; i++) await gaveUp(30_000);
  assert.ok(!hosts[0]!.isKilled);
  for (let i = 0; i < 2; i++) await gaveUp(20_000);
  assert.ok(hosts[0]!.isKilled);
  await engine.close();
});

test("counts are bounded in number and time, and answered ones are forgotten", async () => {
  const { engine, hosts, pass } = await setup();
  const { events, sent } = hosts[0]!;
  const answer = (): void => {
    for (const { type, ...rest } of sent.splice(0)) {
      if (type === "count" && "id" in rest)
        events.onMessage({ type: "counted", id: rest.id, promptTokens: 3 });
    }
  };
  for (let round = 0; round < 2; round++) {
    const counting = Array.from({ length: 64 }, () => engine.countPromptTokens(text, never));
    await assert.rejects(engine.countPromptTokens(text, never), code("overloaded"));
    answer();
    assert.deepEqual(new Set(await Promise.all(counting)), new Set([3]));
  }
  // A host that works and says so, but does not count.
  const late = assert.rejects(engine.countPromptTokens(text, never), code("deadline_exceeded"));
  for (let i = 0; i < 14; i++) {
    await pass(10_000);
    events.onMessage({ type: "step", events: [] });
  }
  await late;
  assert.ok(!hosts[0]!.isKilled);
  await engine.close();
});

test("closing ends what runs and waits, and no host starts any more", async () => {
  const { engine, hosts, pass, hang } = await setup();
  hang();
  const failing = [1, 2].map(() => assert.rejects(collect(engine, ask("x")), code("engine_unavailable")));
  await pass(0);
  await engine.close();
  await Promise.all(failing);
  hosts[0]!.events.onExit("late");
  await pass(60_000);
  assert.equal(hosts.length, 1);
});

test("scores are bounded in number and time; whoever gives up tells the host, which still owes an answer", async () => {
  const { engine, hosts, pass } = await setup();
  const { events, sent } = hosts[0]!;
  const claim = { request: ask("x"), tokenIds: [1], isEnded: false, chunkTokens: null };
  const scores = { margins: [0], logProbabilities: [-1], text: "a" };
  const scoring = Array.from({ length: 8 }, () => engine.score!(claim, never));
  await assert.rejects(engine.score!(claim, never), code("overloaded"));
  for (const message of sent.splice(0)) {
    if (message.type === "score") events.onMessage({ type: "scored", id: message.id, scores });
  }
  for (const answer of await Promise.all(scoring)) assert.deepEqual(answer, scores);
  const abort = new AbortController();
  const cancelled = assert.rejects(engine.score!(claim, abort.signal), code("cancelled"));
  abort.abort();
  await cancelled;
  assert.deepEqual(
    sent.map(({ type }) => type),
    ["score", "cancel"],
  );
  const late = assert.rejects(engine.score!(claim, never), code("deadline_exceeded"));
  for (let i = 0; i < 61; i++) {
    await pass(10_000);
    events.onMessage({ type: "step", events: [] });
  }
  await late;
  assert.equal(sent.at(-1)!.type, "cancel");
  const waiting = assert.rejects(engine.score!(claim, never), code("engine_failed"));
  events.onExit("it fell over");
  await waiting;
  await engine.close();
});
