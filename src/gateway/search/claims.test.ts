/** Providers that claim too much, and those that say nothing at all. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import { ManualClock } from "../../util/clock.ts";
import { believedOutputTokens, believedPromptTokens } from "./claims.ts";
import { type FakeSession, question, testGateway } from "../fixture.suite.ts";
import { defaultLimits, startTimeoutMs } from "../options.ts";

const chat = "/v1/chat/completions";
const timings = { queueMs: 0, prefillMs: 0, decodeMs: 0 };

interface Answer {
  readonly usage?: { prompt_tokens: number; completion_tokens: number; fee: { amount: string } };
  readonly error?: { code: string; message: string };
}

/** Replaces a provider's answers by a text without token ids, and what it claims for it. */
function claim(session: FakeSession, text: string, promptTokens: number, outputTokens: number): void {
  session.events = async function* (): AsyncGenerator<GenerateEvent> {
    yield { type: "start", promptTokens, cachedTokens: promptTokens };
    yield { type: "tokens", position: 0, tokenIds: [], tokenCount: 60_000, text };
    yield { type: "end", finishReason: "stop", promptTokens, outputTokens, timings };
  };
}

/** Waits until the signal aborts, as a session does for a provider that says nothing. */
function silence(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) =>
    signal.addEventListener("abort", () => reject(signal.reason), { once: true }),
  );
}

test("no more output is believed than the received text can have", () => {
  const request = { stop: [], outputTokensMax: null };
  assert.equal(believedOutputTokens(3, "Hello, goose", request), 3);
  assert.equal(believedOutputTokens(1_000, "Hello", request), 6);
  assert.equal(believedOutputTokens(1_000, "", request), 1);
  assert.equal(believedOutputTokens(1_000, "🪿", { stop: ["###", "ä"], outputTokensMax: null }), 8);
  assert.equal(believedOutputTokens(1_000, "Hello", { stop: [], outputTokensMax: 2 }), 2);
});

test("no more prompt is believed than was sent and a template may add", () => {
  assert.equal(believedPromptTokens(3, { kind: "text", text: "Hello" }), 3);
  assert.equal(believedPromptTokens(1_000, { kind: "text", text: "Hello" }), 21);
  assert.equal(believedPromptTokens(1_000, { kind: "tokens", tokenIds: [1, 2] }), 18);
  const messages = [{ role: "user" as const, content: "Hello" }];
  assert.equal(believedPromptTokens(100, { kind: "chat", messages }), 100);
  assert.equal(believedPromptTokens(1e6, { kind: "chat", messages }), 1_045);
});

test("a provider without token ids cannot bill what it did not send", async () => {
  const setup = testGateway();
  claim(await setup.add("p1"), "twelve bytes", 1_000_000, 1_000_000);
  const { usage } = (await (await setup.post(chat, question)).json()) as Answer;
  const promptTokensMax = 1_024 + 16 + question.messages[0]!.content.length;
  assert.equal(usage!.completion_tokens, 13);
  assert.equal(usage!.prompt_tokens, promptTokensMax);
  assert.equal(usage!.fee.amount, String(promptTokensMax + 2 * 13));
});

test("what an honest one claims is charged", async () => {
  const setup = testGateway();
  claim(await setup.add("p1"), "twelve bytes", 9, 4);
  const { usage } = (await (await setup.post(chat, question)).json()) as Answer;
  assert.deepEqual([usage!.prompt_tokens, usage!.completion_tokens], [9, 4]);
});

test("a provider that accepts no request, and one that counts no prompt, are waited for in vain, but not long", async () => {
  const clock = new ManualClock();
  const limits = { ...defaultLimits, firstTokenTimeoutMs: 10 * startTimeoutMs, queueTimeoutMs: 1 };
  const setup = testGateway({ limits }, 1, clock);
  const session = await setup.add("p1");
  let asked = (): void => undefined;
  session.events = async function* (_: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    asked();
    yield await silence(signal);
  };
  session.countPromptTokens = (...[, , signal]) => {
    asked();
    return silence(signal);
  };
  const waitFor = async (path: string, timeoutMs: number): Promise<Answer> => {
    const begun = new Promise<void>((resolve) => (asked = resolve));
    const answer = setup.post(path, question);
    await begun;
    clock.advance(timeoutMs);
    return (await (await answer).json()) as Answer;
  };
  assert.match(
    (await waitFor("/v1/quote", 10_000)).error!.message,
    /did not count the prompt within 10000 ms/,
  );
  // Nobody else can serve it; the request ends when its short wait for somebody does.
  const waiting = setInterval(() => clock.advance(1_000), 1);
  try {
    const { error } = await waitFor(chat, startTimeoutMs);
    assert.match(error!.message, new RegExp(`did not accept the request within ${startTimeoutMs} ms`));
  } finally {
    clearInterval(waiting);
  }
});

test("requests that were never understood are counted too, by path, status and code", async () => {
  const setup = testGateway({ apiKeys: ["secret"] });
  const headers = { authorization: "Bearer secret" };
  await setup.add("p1");
  await setup.post(chat, "{", headers);
  await setup.post(chat, { ...question, n: 0 }, headers);
  await setup.post(chat, { ...question, n: -1 }, headers);
  await setup.post("/v1/completions", question);
  await (await setup.post(chat, question, headers)).text();
  await setup.get("/v1/models/naive", headers);
  await setup.get("/v1/secret-path", headers);
  const text = await (await setup.get("/metrics", headers)).text();
  const count = (route: string, status: number, type: string): number =>
    Number(
      new RegExp(
        `skein_http_requests_total{http_route="${route}",http_response_status_code="${status}",error_type="${type}"} (\\d+)`,
      ).exec(text)?.[1],
    );
  assert.equal(count(chat, 400, "invalid_json"), 1);
  assert.equal(count(chat, 400, "invalid_request"), 2);
  assert.equal(count("/v1/completions", 401, "invalid_api_key"), 1);
  assert.equal(count(chat, 200, ""), 1);
  assert.equal(count("/v1/models", 200, ""), 1);
  assert.equal(count("other", 404, "not_found"), 1);
  assert.doesNotMatch(text, /secret-path/);
});
