/** A stream that becomes slow goes on elsewhere: nothing lost, doubled or charged twice, and only when it helps. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { NaiveEngineOptions } from "../../engine/naive.ts";
import type { RequestView } from "../../protocol/gateway-api.ts";
import type { GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import { defaultPolicy } from "../../router/policy.ts";
import { SkeinError } from "../../util/errors.ts";
import { type FakeSession, PassingTime, testGateway, type TestGateway } from "../fixture.suite.ts";
import { defaultLimits } from "../options.ts";

const usual: Partial<NaiveEngineOptions> = { msPerToken: 20, prefillMs: 100, answerTokens: 150 };
const body = {
  model: "naive",
  messages: [{ role: "user", content: "Which goose?" }],
  temperature: 1,
  stream: true,
  stream_options: { include_usage: true },
};

interface Seen {
  readonly texts: string[];
  readonly error: string | null;
  readonly usage: { prompt_tokens: number; completion_tokens: number; fee: { amount: string } };
  readonly skein: { provider: string; attempts: number; request_id: string };
}

class World {
  readonly time = new PassingTime();
  readonly setup: TestGateway;
  /** Milliseconds that the first provider takes for a token at a position; 0: as usual. */
  slowness: (request: GenerateRequest, position: number) => number = () => 0;

  constructor() {
    // Providers that are equally near always go in the same order.
    const policy = { ...defaultPolicy, exploreShare: 0, nearBestFactor: 1, nearBestMs: 0 };
    this.setup = testGateway({ policy, limits: { ...defaultLimits, queueTimeoutMs: 3_000 } }, 1, this.time);
  }

  async join(): Promise<{ first: FakeSession; second: FakeSession }> {
    const first = await this.setup.add("p1", {
      ...usual,
      onToken: (request, position) => {
        const ms = request.requestId === "probe" ? 0 : this.slowness(request, position);
        return ms === 0 ? undefined : this.time.after(ms);
      },
    });
    await this.ask();
    await this.ask();
    // Farther away, so that it is never the first choice.
    const second = await this.setup.add("p2", { ...usual, prefillMs: 300 });
    return { first, second };
  }

  async ask(more: object = {}): Promise<Seen> {
    const response = await this.setup.post("/v1/chat/completions", { ...body, ...more });
    const events = await response.text();
    const chunks = [...events.matchAll(/^data: (\{.*)$/gm)].map(([, data]) => JSON.parse(data!));
    const texts: string[] = [];
    for (const { choices } of chunks) {
      for (const { index, delta } of choices ?? [])
        texts[index] = (texts[index] ?? "") + (delta.content ?? "");
    }
    const error = events.endsWith("data: [DONE]\n\n") ? null : events.slice(-500);
    const skein = chunks.findLast((chunk) => chunk.skein !== undefined)?.skein;
    return { texts, error, usage: chunks.at(-1)?.usage, skein };
  }

  async why(id: string): Promise<RequestView> {
    return (await (await this.setup.get(`/v1/requests/${id}`)).json()) as RequestView;
  }

  /** Second attempts for a slow stream. */
  async tries({ skein }: Seen): Promise<number> {
    const { decisions } = await this.why(skein.request_id);
    return decisions.filter(({ moved }) => moved !== null).length;
  }

  async metric(pattern: RegExp): Promise<void> {
    assert.match(await (await this.setup.get("/metrics")).text(), pattern);
  }
}

function inWorld(name: string, run: (world: World) => Promise<void>): void {
  test(name, async () => {
    const world = new World();
    try {
      await run(world);
    } finally {
      world.time.end();
    }
  });
}

const slowFrom =
  (from: number, ms = 1_000): World["slowness"] =>
  (_, position) =>
    position >= from ? ms : 0;

for (const more of [
  { seed: 1 },
  { seed: 2, max_tokens: 90 },
  { seed: 3, stop: ["place. 🪿the front"] },
  { seed: 4, n: 2 },
]) {
  inWorld(
    `it goes on elsewhere, to the byte, and is charged once: ${JSON.stringify(more)}`,
    async (world) => {
      await world.join();
      const expected = await world.ask(more);
      world.slowness = slowFrom(40);
      const seen = await world.ask(more);
      assert.equal(seen.error, null);
      assert.deepEqual(seen.texts, expected.texts, JSON.stringify(more));
      assert.deepEqual(seen.usage, expected.usage, JSON.stringify(more));
      assert.deepEqual([seen.skein.provider, seen.skein.attempts], ["p2", 2], JSON.stringify(more));
      const { decisions } = await world.why(seen.skein.request_id);
      const moved = decisions.find((decision) => decision.moved !== null)!;
      assert.deepEqual(
        [moved.provider, moved.reason, moved.moved!.from, moved.moved!.outcome],
        ["p2", "slow_stream", "p1", "taken_over"],
      );
      assert.ok(moved.moved!.ms_per_token >= 4 * moved.moved!.usual_ms_per_token);
      await world.metric(/skein_attempts_in_flight 0\n/);
      await world.metric(/skein_moves_total\{outcome="won"\} 1\n/);
    },
  );
}

inWorld("each provider is paid for what it delivered, by tokens and by time", async (world) => {
  const { first, second } = await world.join();
  for (const [session, output] of [
    [first, 1_000_000n],
    [second, 1_000_000_000n],
  ] as const) {
    const offer = session.offer!;
    const price = { inputPerMillionTokens: 0n, outputPerMillionTokens: output, perSecond: 0n };
    Object.defineProperty(session, "offer", {
      value: { ...offer, models: offer.models.map((model) => ({ ...model, price })) },
    });
    session.changed();
  }
  world.slowness = slowFrom(40);
  const { usage, skein } = await world.ask({ seed: 1 });
  const { moved } = (await world.why(skein.request_id)).decisions.at(-1)!;
  const amount = Number(usage.fee.amount);
  const [bySecond, byFirst] = [Math.floor(amount / 1_000), amount % 1_000];
  assert.equal(bySecond + byFirst, 150);
  assert.ok(byFirst >= moved!.position && byFirst < moved!.position + 5, `${byFirst} by the slow one`);
});

inWorld("where the tokens differ, the slow one goes on", async (world) => {
  const { second } = await world.join();
  const expected = await world.ask({ seed: 1 });
  const generate = second.events.bind(second);
  second.events = async function* (request, signal): AsyncGenerator<GenerateEvent> {
    yield* generate({ ...request, sampling: { ...request.sampling, seed: 99 } }, signal);
  };
  world.slowness = slowFrom(100, 400);
  const seen = await world.ask({ seed: 1 });
  assert.deepEqual([seen.texts, seen.usage, seen.skein.provider], [expected.texts, expected.usage, "p1"]);
  assert.equal((await world.why(seen.skein.request_id)).decisions.at(-1)!.moved!.outcome, "different");
});

inWorld("the slow one fails while the other catches up: no gap but that", async (world) => {
  const { first } = await world.join();
  const expected = await world.ask({ seed: 1 });
  world.slowness = (_, position) => {
    if (position < 42) return position < 40 ? 0 : 1_200;
    throw new SkeinError("engine_failed", "killed");
  };
  first.requests = 0;
  const seen = await world.ask({ seed: 1 });
  assert.deepEqual([seen.error, seen.texts, seen.usage], [null, expected.texts, expected.usage]);
  assert.equal(seen.skein.provider, "p2");
});

inWorld("the other one fails: it is put aside, the slow one goes on", async (world) => {
  const { second } = await world.join();
  const expected = await world.ask({ seed: 1 });
  second.events = () => {
    throw new SkeinError("engine_failed", "killed");
  };
  world.slowness = (_, position) => (position >= 40 && position < 48 ? 800 : 0);
  const seen = await world.ask({ seed: 1 });
  assert.deepEqual([seen.error, seen.texts, seen.usage], [null, expected.texts, expected.usage]);
  assert.equal((await world.why(seen.skein.request_id)).decisions.at(-1)!.moved!.outcome, "failed");
  await world.metric(/skein_moves_total\{outcome="lost"\} 1\n/);
  await world.metric(/skein_provider_state\{state="cooling"\} 1\n/);
});

inWorld("what ends soon anyway is left alone", async (world) => {
  await world.join();
  world.slowness = slowFrom(80, 300);
  const seen = await world.ask({ seed: 1, max_tokens: 92 });
  assert.deepEqual([await world.tries(seen), seen.skein.provider], [0, "p1"]);
});

inWorld("what cannot go on elsewhere is left alone", async (world) => {
  const { second } = await world.join();
  const unresumable = { ...second.engine.model, resumable: false };
  Object.defineProperty(second.engine, "model", { value: unresumable });
  second.changed();
  world.slowness = slowFrom(40, 500);
  const seen = await world.ask({ seed: 1 });
  assert.deepEqual([await world.tries(seen), seen.skein.provider], [0, "p1"]);
});

inWorld("a standstill of the gateway itself moves nobody", async (world) => {
  await world.join();
  // Every few tokens nothing is heard for long, because this process does not listen.
  world.slowness = (_, position) => {
    if (position % 10 === 0) world.time.stoodMs += 2_000;
    return 0;
  };
  const seen = await world.ask({ seed: 1 });
  assert.deepEqual([seen.skein.provider, seen.skein.attempts, await world.tries(seen)], ["p1", 1, 0]);
});

inWorld("all together stay within the budget of second attempts", async (world) => {
  await world.join();
  world.slowness = slowFrom(2, 1_000);
  const streams = await Promise.all(
    Array.from({ length: 4 }, (_, seed) =>
      world.ask({ seed, max_tokens: 30, skein: { allow: ["p1", "p2"] } }),
    ),
  );
  assert.ok(streams.every(({ error }) => error === null));
  const tries = await Promise.all(streams.map((seen) => world.tries(seen)));
  assert.equal(
    tries.reduce((sum, count) => sum + count, 0),
    1,
  );
});
