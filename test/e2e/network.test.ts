/** `npm start`'s network as a user meets it: three providers, official clients, joining, leaving, dying. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import OpenAI from "openai";
import type { ProviderView } from "../../src/protocol/gateway-api.ts";
import {
  eventually,
  killAll,
  type Running,
  skein,
  skeinToEnd,
  stop,
  temporaryHome,
  tinyModel,
} from "./processes.ts";

const home = temporaryHome();
let network: Running;
let gateway = "";
let openai: OpenAI;

before(async () => {
  network = skein(home.path, "up", "--port", "0");
  const [, url] = await network.printed(/(http:\/\/127\.0\.0\.1:\d+)\/v1/);
  await network.printed(/Ctrl-C/);
  gateway = url!;
  openai = new OpenAI({ baseURL: `${gateway}/v1`, apiKey: "none", maxRetries: 0 });
});

after(async () => {
  try {
    await stop(network);
  } finally {
    await killAll();
  }
  home.remove();
});

const cow = [{ role: "user" as const, content: "What sound does a cow make?" }];

async function providers(): Promise<ProviderView[]> {
  const response = await fetch(`${gateway}/skein/v1/providers`);
  const body = (await response.json()) as { data: ProviderView[] };
  return body.data;
}

async function availableOf(model: string): Promise<ProviderView[]> {
  const all = await providers();
  return all.filter(
    (provider) => provider.state === "available" && provider.models.some(({ name }) => name === model),
  );
}

test("three providers serve the demo model, and another one serves it exactly", async () => {
  const models = await openai.models.list();
  assert.deepEqual(
    models.data.map((model) => model.id),
    ["tiny", "tiny-exact"],
  );
  assert.equal((await availableOf("tiny")).length, 3);
  assert.equal((await availableOf("tiny-exact")).length, 1);
  assert.equal((await openai.models.retrieve("tiny")).object, "model");
});

test("chat completion, whole and streamed, gives the same answer to the same seed", async () => {
  const request = { model: "tiny", messages: cow, temperature: 0.8, seed: 7, max_tokens: 40 };
  const whole = await openai.chat.completions.create(request);
  const text = whole.choices[0]!.message.content!;
  assert.match(text, /moo|cow|say/i);
  assert.equal(whole.choices[0]!.finish_reason, "stop");
  assert.equal(whole.usage!.total_tokens, whole.usage!.prompt_tokens + whole.usage!.completion_tokens);

  let streamed = "";
  let usage: OpenAI.CompletionUsage | null | undefined;
  const stream = await openai.chat.completions.create({
    ...request,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    streamed += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(streamed, text);
  assert.equal(usage?.completion_tokens, whole.usage!.completion_tokens);
});

test("completions, stop sequences, n and length", async () => {
  const completion = await openai.completions.create({
    model: "tiny",
    prompt: "Once upon a time",
    max_tokens: 5,
  });
  assert.equal(completion.choices[0]!.finish_reason, "length");
  assert.equal(completion.usage!.completion_tokens, 5);
  const chat = await openai.chat.completions.create({
    model: "tiny",
    messages: [{ role: "user", content: "Tell me a story." }],
    n: 3,
    seed: 1,
    temperature: 1,
    stop: ["."],
    max_tokens: 60,
  });
  assert.deepEqual(
    chat.choices.map((choice) => choice.index),
    [0, 1, 2],
  );
  for (const choice of chat.choices) assert.ok(!choice.message.content!.includes("."));
  assert.ok(new Set(chat.choices.map((choice) => choice.message.content)).size > 1, "draws differ");
});

test("the exact model says so, and gives one answer for one seed whatever else is asked", async () => {
  const response = await fetch(`${gateway}/v1/models/tiny-exact`);
  const { skein: facts } = (await response.json()) as { skein: { engines: string[]; trust_tiers: string[] } };
  assert.deepEqual(facts.engines, ["exact"]);
  assert.deepEqual(facts.trust_tiers, ["exact"]);
  const ask = (seed: number): Promise<OpenAI.ChatCompletion> =>
    openai.chat.completions.create({
      model: "tiny-exact",
      messages: [{ role: "user", content: "Tell me a story." }],
      temperature: 1,
      seed,
      max_tokens: 40,
    });
  const alone = await ask(7);
  const together = await Promise.all([1, 2, 7, 3, 7].map((seed) => ask(seed)));
  const texts = [alone, ...together].map(({ choices }) => choices[0]!.message.content);
  assert.equal(texts[3], texts[0]);
  assert.equal(texts[5], texts[0]);
  assert.ok(new Set(texts).size > 1, "draws differ");
});

test("the Vercel AI SDK generates and streams", async () => {
  const skeinModels = createOpenAICompatible({ name: "skein", baseURL: `${gateway}/v1` });
  const { text } = await generateText({ model: skeinModels("tiny"), prompt: "3 + 83 = ?", temperature: 0 });
  assert.match(text, /86/);
  const streamed = streamText({ model: skeinModels("tiny"), prompt: "3 + 83 = ?", temperature: 0 });
  let whole = "";
  for await (const part of streamed.textStream) whole += part;
  assert.equal(whole, text);
});

test("32 requests at once are all answered right", async () => {
  const sums = Array.from({ length: 32 }, (_, i) => [i + 3, 40 + i] as const);
  const answers = await Promise.all(
    sums.map(([a, b]) =>
      openai.chat.completions.create({
        model: "tiny",
        messages: [{ role: "user", content: `Can you add ${a} and ${b}?` }],
        temperature: 0,
        max_tokens: 40,
      }),
    ),
  );
  const right = answers.filter((answer, i) => {
    const [a, b] = sums[i]!;
    return new RegExp(`\\b${a + b}\\b`).test(answer.choices[0]!.message.content ?? "");
  });
  // The model itself gets 95 % of such questions right; mixed-up answers would get almost none.
  assert.ok(right.length >= 27, `${right.length} of 32 right`);
});

test("the price is known before and exact after", async () => {
  const request = { model: "tiny", messages: cow, max_tokens: 16, temperature: 0 };
  const response = await fetch(`${gateway}/v1/quote`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request),
  });
  const quote = (await response.json()) as {
    input_tokens: number;
    offers: { fee_min: { amount: string }; fee_max: { amount: string } }[];
  };
  assert.equal(response.status, 200);
  const answer = await openai.chat.completions.create(request);
  const usage = answer.usage as OpenAI.CompletionUsage & {
    fee: { amount: string; unit: string; cloud?: { amount: string } };
  };
  assert.equal(quote.input_tokens, usage.prompt_tokens);
  const fee = BigInt(usage.fee.amount);
  assert.ok(fee > 0n && fee >= BigInt(quote.offers[0]!.fee_min.amount));
  assert.ok(fee <= BigInt(quote.offers[0]!.fee_max.amount));
  assert.ok(BigInt(usage.fee.cloud!.amount) > fee, "the demo's price is below the cloud's");
});

test("a provider joins from another terminal within seconds and leaves cleanly", async () => {
  const joining = skein(home.path, "provide", "--model", tinyModel, "--name", "mine", "--join", gateway);
  await eventually("joined", async () => ((await availableOf("mine")).length === 1 ? true : null));
  const answer = await openai.chat.completions.create({ model: "mine", messages: cow, max_tokens: 20 });
  assert.ok(answer.choices[0]!.message.content!.length > 0);
  await stop(joining);
  await eventually("left", async () => ((await availableOf("mine")).length === 0 ? true : null), 10_000);
});

test("an OpenAI-compatible server is offered through a provider", async () => {
  const url = `${gateway}/v1`;
  const args = ["--engine", "openai", "--url", url, "--upstream-model", "tiny", "--name", "relayed"];
  const joining = skein(home.path, "provide", ...args, "--join", gateway);
  await eventually("joined", async () => ((await availableOf("relayed")).length === 1 ? true : null));
  const answer = await openai.chat.completions.create({
    model: "relayed",
    messages: [{ role: "user", content: "3 + 83 = ?" }],
    temperature: 0,
  });
  assert.match(answer.choices[0]!.message.content!, /86/);
  await stop(joining);
});

test("a killed provider disappears within seconds and requests go elsewhere unnoticed", async () => {
  const victim = skein(home.path, "provide", "--model", tinyModel, "--join", gateway);
  const joined = await eventually("joined", async () => {
    const serving = await availableOf("tiny");
    return serving.length === 4 ? serving : null;
  });
  assert.equal(joined.length, 4);
  const asking = Array.from({ length: 24 }, (_, i) =>
    openai.chat.completions.create({ model: "tiny", messages: cow, seed: i, max_tokens: 30 }),
  );
  victim.child.kill("SIGKILL");
  for (const answer of await Promise.all(asking)) {
    assert.ok(["stop", "length"].includes(answer.choices[0]!.finish_reason));
  }
  await eventually("gone", async () => ((await availableOf("tiny")).length <= 3 ? true : null), 10_000);
});

test("the terminal commands show the network", async () => {
  const run = (...args: string[]) => skeinToEnd(home.path, ...args, "--gateway", gateway);
  const models = await run("models", "--json");
  assert.equal(models.code, 0, models.output);
  assert.equal(JSON.parse(models.output).data[0].id, "tiny");
  assert.match((await run("models")).output, /tiny/);
  assert.match((await run("providers")).output, /12D3Koo/);
  const chat = await run("chat", "3 + 83 = ?", "--temperature", "0");
  assert.equal(chat.code, 0, chat.output);
  assert.match(chat.output, /86/);
  assert.match((await run("quote", "3 + 83 = ?")).output, /USD|\$/);
});

test("metrics speak OpenTelemetry's names", async () => {
  const text = await (await fetch(`${gateway}/metrics`)).text();
  assert.match(text, /gen_ai_client_operation_duration_seconds_count/);
  assert.match(text, /gen_ai_client_token_usage/);
  assert.doesNotMatch(text, /cow/);
});
