/** Failures, fullness and differences between providers, as a client sees them: not at all, if possible. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { NaiveEngineOptions } from "../../engine/naive.ts";
import type { GenerateRequest } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import { question, testGateway, type TestGateway, reoffer } from "../fixture.suite.ts";
import { defaultLimits } from "../options.ts";

const chat = "/v1/chat/completions";
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Answer {
  readonly choices?: { message: { content: string } }[];
  readonly usage?: { completion_tokens: number; fee: { amount: string } };
  readonly skein?: { provider: string; attempts: number };
  readonly error?: { code: string; message: string };
}

async function ask(setup: TestGateway, body: object = question): Promise<Answer & { status: number }> {
  const response = await setup.post(chat, body);
  return { ...((await response.json()) as Answer), status: response.status };
}

/** Fails real requests at a position, once. */
function failingAt(position: number, code: "engine_failed" | "invalid_api_key" = "engine_failed") {
  let armed = true;
  return (request: GenerateRequest, at: number): void => {
    if (request.requestId === "probe" || !armed || at !== position) return;
    armed = false;
    throw new SkeinError(code, "killed");
  };
}

test("an engine that cannot hand over: begun anew while the client saw nothing, else cut with an error", async () => {
  const setUp = async (): Promise<TestGateway> => {
    const setup = testGateway();
    const onToken = failingAt(9);
    for (const id of ["p1", "p2"]) reoffer(await setup.add(id, { onToken }), { resumable: false });
    return setup;
  };
  const whole = await ask(await setUp());
  assert.equal(whole.status, 200);
  assert.equal(whole.usage!.completion_tokens, 24);
  assert.equal(whole.usage!.fee.amount, "55", "what was thrown away costs nothing");
  assert.equal(whole.skein!.attempts, 2);

  const streamed = await (await (await setUp()).post(chat, { ...question, stream: true })).text();
  assert.match(streamed, /"code":"provider_failed"/);
  assert.doesNotMatch(streamed, /\[DONE\]/);
});

test("a provider cannot blame the client for what is its own fault", async () => {
  const setup = testGateway();
  const onToken = failingAt(0, "invalid_api_key");
  await setup.add("p1", { onToken });
  await setup.add("p2", { onToken });
  const answer = await ask(setup);
  assert.deepEqual([answer.status, answer.skein?.attempts], [200, 2]);
});

test("many providers may vanish under an answer before its first token; not without end", async () => {
  const attempts = async (deaths: number): Promise<number | string | undefined> => {
    const setup = testGateway();
    let left = deaths;
    for (let i = 0; i <= deaths; i++) {
      const session = await setup.add(`p${i}`);
      const events = session.events.bind(session);
      session.events = (request, signal) => {
        if (request.requestId !== "probe" && left-- > 0) session.close("killed");
        return events(request, signal);
      };
    }
    const { error, skein } = await ask(setup);
    return error?.code ?? skein?.attempts;
  };
  assert.equal(await attempts(15), 16);
  assert.equal(await attempts(16), "provider_disconnected");
});

test("a prompt too long for one provider goes to one with a longer context", async () => {
  const setup = testGateway();
  for (const id of ["a", "b", "c"]) await setup.add(id, { contextTokensMax: 40 });
  await setup.add("long", { contextTokensMax: 400 });
  const long = { ...question, messages: [{ role: "user", content: "moo ".repeat(60) }] };
  for (let i = 0; i < 5; i++) assert.equal((await ask(setup, long)).skein?.provider, "long");
  const tooLong = { ...question, messages: [{ role: "user", content: "moo ".repeat(600) }] };
  assert.equal((await ask(setup, tooLong)).error?.code, "context_length_exceeded");
  assert.equal((await ask(setup)).status, 200, "nobody was put aside for it");
});

test("more requests than there is room wait in order and are all answered", async () => {
  const setup = testGateway({ limits: { ...defaultLimits, queueTimeoutMs: 10_000 } });
  const order: string[] = [];
  const options: Partial<NaiveEngineOptions> = {
    parallelMax: 2,
    queueLengthMax: 0,
    msPerToken: 1,
    answerTokens: 5,
    onToken: (request, at) => {
      const prompt = request.prompt;
      if (at === 0 && prompt.kind === "chat") order.push(prompt.messages[0]!.content);
    },
  };
  await setup.add("p1", options);
  await setup.add("p2", options);
  const asking = [];
  for (let i = 0; i < 24; i++) {
    asking.push(ask(setup, { ...question, messages: [{ role: "user", content: String(i) }] }));
    await pause(0);
  }
  for (const answer of await Promise.all(asking)) {
    assert.equal(answer.status, 200, answer.error?.message);
    assert.equal(answer.skein!.attempts, 1, "finding no room is no attempt");
  }
  const places = order.map((content, place) => Math.abs(Number(content) - place));
  assert.ok(Math.max(...places) <= 4, `served in order: ${order.join(" ")}`);
});

test("a request that only an absent provider could serve holds up nobody", async () => {
  const setup = testGateway({ limits: { ...defaultLimits, queueTimeoutMs: 2_000 } });
  await setup.add("short", { contextTokensMax: 40 });
  const away = await setup.add("long", { contextTokensMax: 400 });
  away.events = () => {
    throw new SkeinError("engine_failed", "away");
  };
  const messages = [{ role: "user", content: "moo ".repeat(60) }];
  let ended = false;
  const waiting = ask(setup, { ...question, messages }).finally(() => (ended = true));
  await pause(50);
  const others = await Promise.all(Array.from({ length: 8 }, () => ask(setup)));
  assert.equal(ended, false);
  for (const { status } of others) assert.equal(status, 200);
  assert.equal((await waiting).error?.code, "engine_failed");
});

test("what happened can be seen in the metrics", async () => {
  const setup = testGateway();
  const onToken = failingAt(3);
  await setup.add("p1", { onToken });
  await setup.add("p2", { onToken });
  await ask(setup);
  const text = await (await setup.get("/metrics")).text();
  assert.match(text, /skein_attempts_total\{outcome="engine_failed"\} 1/);
  assert.match(text, /skein_attempts_total\{outcome="ok"\} 1/);
  assert.match(text, /skein_provider_state\{state="available"\} 1/);
  assert.match(text, /skein_provider_state\{state="cooling"\} 1/);
  assert.match(text, /skein_requests_waiting 0/);
  assert.match(text, /skein_attempts_in_flight 0/);
});

test("n choices: each its own draws, one provider, one stream with every index, the prompt charged once", async () => {
  const setup = testGateway();
  const sessions = [await setup.add("p1"), await setup.add("p2"), await setup.add("p3")];
  const body = { ...question, n: 3, seed: 5, temperature: 1 };
  const whole = await ask(setup, body);
  const texts = whole.choices!.map(({ message }) => message.content);
  assert.equal(new Set(texts).size, 3);
  assert.equal(sessions.filter(({ requests }) => requests > 0).length, 1);
  assert.equal((await ask(setup, { ...body, n: 1 })).choices![0]!.message.content, texts[0]);

  const streamed = await (await setup.post(chat, { ...body, stream: true })).text();
  const seen = ["", "", ""];
  const ended: number[] = [];
  for (const line of streamed.split("\n\n").filter((text) => text.startsWith("data: {"))) {
    for (const choice of JSON.parse(line.slice(6)).choices) {
      seen[choice.index] += choice.delta.content ?? "";
      if (choice.finish_reason !== null) ended.push(choice.index);
    }
  }
  assert.deepEqual(seen, texts);
  assert.deepEqual(
    ended.toSorted((a, b) => a - b),
    [0, 1, 2],
  );
});

test("one failing choice ends the request and frees all slots", async () => {
  const setup = testGateway({ limits: { ...defaultLimits, queueTimeoutMs: 50 } });
  const session = await setup.add("p1", {
    msPerToken: 2,
    onToken: ({ requestId, sampling }, at) => {
      if (requestId !== "probe" && at === 5 && sampling.seed !== 5)
        throw new SkeinError("engine_failed", "no");
    },
  });
  const answer = await ask(setup, { ...question, n: 3, seed: 5, temperature: 1 });
  assert.equal(answer.error?.code, "engine_failed");
  await pause(20);
  assert.deepEqual(session.engine.load(), { active: 0, queued: 0 });
});

test("another identity of the same name helps out only when the request allows it", async () => {
  const setup = testGateway({ limits: { ...defaultLimits, queueTimeoutMs: 50 } });
  const fail = (request: GenerateRequest): void => {
    if (request.requestId !== "probe") throw new SkeinError("engine_failed", "always");
  };
  await setup.add("a", { modelId: "m:aaaa", onToken: fail });
  await setup.add("b", { modelId: "m:bbbb" });
  assert.equal((await ask(setup, { ...question, model: "naive@aaaa" })).error?.code, "engine_failed");
  const strict = testGateway({ limits: { ...defaultLimits, queueTimeoutMs: 50 } });
  await strict.add("a", { modelId: "m:aaaa", onToken: fail });
  await strict.add("b", { modelId: "m:bbbb" });
  // Both have one provider: the lower id is what the name stands for.
  assert.equal((await ask(strict)).error?.code, "engine_failed");
  const allowed = await ask(strict, { ...question, skein: { allow_other_models: true } });
  assert.equal(allowed.skein?.provider, "b");
});

test("engine time is charged as claimed, but never more than was measured", async () => {
  const setup = testGateway();
  const session = await setup.add("p1");
  const price = { inputPerMillionTokens: 0n, outputPerMillionTokens: 0n, perSecond: 1_000_000n };
  reoffer(session, { price });
  const generate = session.events.bind(session);
  const claiming = (decodeMs: number) =>
    async function* (...given: Parameters<typeof generate>) {
      for await (const event of generate(...given)) {
        yield event.type === "end"
          ? { ...event, timings: { queueMs: 0, prefillMs: 0, decodeMs }, outputTokens: 500_000 }
          : event;
      }
    };
  session.events = claiming(0);
  assert.equal((await ask(setup)).usage!.fee.amount, "0");
  session.events = claiming(3_600_000);
  const startMs = performance.now();
  const { usage } = await ask(setup);
  const elapsedMs = performance.now() - startMs;
  assert.ok(Number(usage!.fee.amount) <= Math.ceil(elapsedMs) * 1_000, usage!.fee.amount);
  assert.equal(usage!.completion_tokens, 24, "tokens are counted here");
});

test("among many that only pass the probe, the one that has answered before is found", async () => {
  const failing = (): void => {
    throw new SkeinError("engine_failed", "it fails all real requests");
  };
  for (let seed = 1; seed <= 8; seed++) {
    const setup = testGateway({}, seed);
    // Slower than who only claims to be quick.
    await setup.add("honest", { msPerToken: 20, answerTokens: 4 });
    assert.equal((await ask(setup)).status, 200);
    const onToken = ({ requestId }: GenerateRequest): void => (requestId === "probe" ? undefined : failing());
    for (let i = 0; i < 6; i++) await setup.add(`liar ${i}`, { onToken });
    // Another question: the first one is cached there.
    const messages = [{ role: "user", content: "And who flies behind?" }];
    const { status, skein } = await ask(setup, { ...question, messages });
    assert.equal(status, 200, `seed ${seed}`);
    assert.equal(skein!.provider, "honest");
    assert.equal(skein!.attempts, 2);
  }
});
