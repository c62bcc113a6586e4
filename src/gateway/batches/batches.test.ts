import assert from "node:assert/strict";
import { test } from "node:test";
import type OpenAI from "openai";
import { toFile } from "openai";
import { createNaiveEngine, naiveDefaults } from "../../engine/naive.ts";
import { MemoryStore } from "../../store/memory.ts";
import type { Prompt } from "../../protocol/generate.ts";
import { defaultPolicy } from "../../router/policy.ts";
import { systemClock } from "../../util/clock.ts";
import { clientOf, failure } from "../client.suite.ts";
import { defaultBatchOptions } from "./index.ts";
import { FakeSession, testGateway, type TestGateway } from "../fixture.suite.ts";

type Body = Record<string, unknown>;
const chat = "/v1/chat/completions";
const ask = (text: string, more: Body = {}): Body => ({
  model: "naive",
  messages: [{ role: "user", content: text }],
  ...more,
});
const lineOf = (customId: string, body: unknown, url = chat): string =>
  JSON.stringify({ custom_id: customId, method: "POST", url, body });

async function submit(client: OpenAI, lines: readonly string[], endpoint = chat): Promise<OpenAI.Batch> {
  const file = await client.files.create({
    file: await toFile(Buffer.from(lines.join("\n")), "in.jsonl"),
    purpose: "batch",
  });
  return client.batches.create({
    input_file_id: file.id,
    endpoint: endpoint as "/v1/chat/completions",
    completion_window: "24h",
  });
}

async function ended(client: OpenAI, id: string): Promise<OpenAI.Batch> {
  for (let i = 0; i < 1_000; i++) {
    const batch = await client.batches.retrieve(id);
    if (["completed", "failed", "expired", "cancelled"].includes(batch.status)) return batch;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("the batch does not end");
}

interface OutputLine {
  id: string;
  custom_id: string | null;
  response: { status_code: number; body: Body & { usage: { fee: { amount: string } } } } | null;
  error: { code: string; param: string | null; line: number } | null;
}

async function linesOf(client: OpenAI, fileId: string | undefined): Promise<OutputLine[]> {
  if (fileId == null) return [];
  const text = await (await client.files.content(fileId)).text();
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as OutputLine);
}

async function gatewayWith(
  options: Parameters<TestGateway["add"]>[1] = {},
  store = new MemoryStore(systemClock),
) {
  const batches = { ...defaultBatchOptions, joinGraceMs: 0 };
  const own = testGateway({ batches }, 1, systemClock, store);
  const session = await own.add("p1", options);
  return { own, session, client: clientOf(own), store };
}

test("embeddings in a batch: the same vectors at half the price, and equal lines are asked once", async () => {
  const { own, session, client } = await gatewayWith();
  const url = "/v1/embeddings";
  const inputs = [["goose", "fox"], "cow", ["goose", "fox"]];
  const lines = inputs.map((input, i) => lineOf(`e${i}`, { model: "naive", input }, url));
  const wrong = [
    lineOf("w", { model: "naive", input: "" }, url),
    lineOf("d", { model: "naive", input: "a", dimensions: 99 }, url),
  ];
  const batch = await ended(client, (await submit(client, [...lines, ...wrong], url)).id);
  assert.deepEqual(batch.request_counts, { total: 5, completed: 3, failed: 2 });
  assert.equal(session.requests, 3);
  const output = await linesOf(client, batch.output_file_id);
  const direct = await client.embeddings.create({
    model: "naive",
    input: inputs[0]!,
    encoding_format: "float",
  });
  for (const i of [0, 2]) assert.deepEqual(output[i]!.response!.body["data"], direct.data);
  const fee = BigInt((direct.usage as unknown as { fee: { amount: string } }).fee.amount);
  assert.equal(BigInt(output[0]!.response!.body.usage.fee.amount), (fee + 1n) / 2n);
  const errors = await linesOf(client, batch.error_file_id);
  assert.deepEqual(
    errors.map(({ custom_id: id, error, response }) => [id, error?.param ?? response?.status_code]),
    [
      ["w", "body.input"],
      ["d", 400],
    ],
  );
  own.gateway.close();
});

test("a batch: answers in the order of its lines, errors beside, both of either endpoint", async () => {
  const { own, client, store } = await gatewayWith();
  const lines = Array.from({ length: 40 }, (_, i) =>
    lineOf(`r${i}`, ask(`question ${i}`, { max_tokens: 3 })),
  );
  const made = await submit(client, lines);
  assert.equal(made.object, "batch");
  assert.equal(made.status, "validating");
  const batch = await ended(client, made.id);
  assert.equal(batch.status, "completed");
  assert.deepEqual(batch.request_counts, { total: 40, completed: 40, failed: 0 });
  assert.equal(batch.model, "naive");
  assert.ok(batch.in_progress_at! <= batch.finalizing_at! && batch.finalizing_at! <= batch.completed_at!);
  const output = await linesOf(client, batch.output_file_id);
  assert.deepEqual(
    output.map(({ custom_id }) => custom_id),
    lines.map((_, i) => `r${i}`),
  );
  assert.ok(output.every(({ response, error }) => response?.status_code === 200 && error === null));
  assert.equal(new Set(output.map(({ id }) => id)).size, 40);
  // Half of what the same costs when it is not in a batch.
  const direct = await client.chat.completions.create(ask("question 1", { max_tokens: 3 }) as never);
  const fee = BigInt((direct.usage as unknown as { fee: { amount: string } }).fee.amount);
  const found = output[1]!.response!.body;
  assert.equal(BigInt(found.usage.fee.amount), (fee + 1n) / 2n);
  assert.equal(found["object"], "chat.completion");
  assert.equal(batch.usage!.output_tokens, 120);
  assert.equal((await store.scan({ prefix: "batch-", limit: 9 })).length, 0);
  const texts = await submit(
    client,
    [lineOf("t", { model: "naive", prompt: ["a", "b"] }, "/v1/completions")],
    "/v1/completions",
  );
  const [text] = await linesOf(client, (await ended(client, texts.id)).output_file_id);
  assert.equal((text!.response!.body as { choices?: unknown[] }).choices!.length, 2);
  assert.deepEqual(
    (await client.batches.list({ limit: 1 })).data.map(({ id }) => id),
    [texts.id],
  );
  const wrong = lineOf("w", { model: "naive", input: "a", background: true }, "/v1/responses");
  const good = lineOf("r", { model: "naive", input: "a" }, "/v1/responses");
  const responses = await ended(client, (await submit(client, [good, wrong], "/v1/responses")).id);
  const [response] = await linesOf(client, responses.output_file_id);
  assert.equal(response!.response!.body["object"], "response");
  assert.equal((await linesOf(client, responses.error_file_id))[0]!.error!.param, "body.background");
  own.gateway.close();
});

test("a batch: what is wrong with a line is said in the error file; the others are answered", async () => {
  const { own, client } = await gatewayWith();
  const lines = [
    lineOf("good", ask("a")),
    "{ nonsense",
    "",
    "[1]",
    JSON.stringify({ method: "POST", url: chat, body: ask("no id") }),
    lineOf("good", ask("the same id")),
    lineOf("other url", ask("a"), "/v1/completions"),
    lineOf("hot", ask("a", { temperature: 9 })),
    lineOf("stream", ask("a", { stream: true })),
    lineOf("model", ask("a", { model: "nobody's" })),
    lineOf("tools", ask("a", { tools: [{}] })),
    lineOf("long", ask("moo ".repeat(3000))),
    lineOf("last", ask("b")),
  ];
  const batch = await ended(client, (await submit(client, lines)).id);
  assert.equal(batch.status, "completed");
  assert.deepEqual(batch.request_counts, { total: 12, completed: 2, failed: 10 });
  assert.deepEqual(
    (await linesOf(client, batch.output_file_id)).map(({ custom_id }) => custom_id),
    ["good", "last"],
  );
  const errors = await linesOf(client, batch.error_file_id);
  const seen = errors.map(({ custom_id, error, response }) => [
    custom_id,
    error?.line,
    error?.param ?? response?.status_code,
  ]);
  assert.deepEqual(seen, [
    [null, 2, undefined],
    [null, 4, undefined],
    [null, 5, "custom_id"],
    ["good", 6, "custom_id"],
    ["other url", 7, "url"],
    ["hot", 8, "body.temperature"],
    ["stream", 9, "body.stream"],
    ["model", 10, "model"],
    ["tools", 11, "body.tools"],
    ["long", undefined, 400],
  ]);
  own.gateway.close();
});

test("a batch without a good line fails, and so does one without lines", async () => {
  const { own, client } = await gatewayWith();
  const bad = await ended(client, (await submit(client, ["nonsense", "{}"])).id);
  assert.equal(bad.status, "failed");
  assert.deepEqual(
    bad.errors!.data!.map(({ line }) => line),
    [1, 2],
  );
  const empty = await ended(client, (await submit(client, ["", ""])).id);
  assert.equal(empty.status, "failed");
  const { id } = await client.files.create({
    file: await toFile(Buffer.from("x"), "a"),
    purpose: "user_data",
  });
  const body = { input_file_id: id, endpoint: chat, completion_window: "24h" } as const;
  await assert.rejects(client.batches.create(body), failure(400, "input_file_id"));
  await assert.rejects(
    client.batches.create({ ...body, input_file_id: "file-x" }),
    failure(404, "input_file_id"),
  );
  await assert.rejects(
    client.batches.create({ ...body, endpoint: "/v1/moderations" }),
    failure(400, "endpoint"),
  );
  await assert.rejects(
    client.batches.create({ ...body, completion_window: "1y" as "24h" }),
    failure(400, "completion_window"),
  );
  await assert.rejects(
    client.batches.create({ ...body, metadata: { a: 1 } as never }),
    failure(400, "metadata"),
  );
  await assert.rejects(client.batches.retrieve("batch_x"), failure(404, null));
  await assert.rejects(client.batches.cancel(bad.id), failure(409, null));
  own.gateway.close();
});

test("lines that must have the same answer are generated once; those that draw are not", async () => {
  const { own, client, session } = await gatewayWith();
  const same = ask("same", { temperature: 0 });
  const turned = Object.fromEntries(Object.entries(same).toReversed());
  const lines = [
    lineOf("a", same),
    lineOf("b", turned),
    lineOf("c", ask("same", { seed: 3 })),
    lineOf("d", ask("same", { seed: 3 })),
    lineOf("e", ask("same")),
    lineOf("f", ask("same")),
    lineOf("g", same),
  ];
  session.requests = 0;
  const output = await linesOf(
    client,
    (await ended(client, (await submit(client, lines)).id)).output_file_id,
  );
  assert.equal(session.requests, 4);
  assert.deepEqual(
    output.map(({ custom_id }) => custom_id),
    ["a", "b", "c", "d", "e", "f", "g"],
  );
  const choices = output.map(({ response }) =>
    JSON.stringify((response!.body as { choices?: unknown })["choices"]),
  );
  assert.equal(choices[1], choices[0]);
  assert.equal(choices[6], choices[0]);
  assert.equal(output[1]!.response!.body.usage.fee.amount, "0");
  assert.notEqual(output[0]!.response!.body.usage.fee.amount, "0");
  own.gateway.close();
});

async function completedLines(client: OpenAI, id: string, least: number): Promise<void> {
  while ((await client.batches.retrieve(id)).request_counts!.completed < least) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const linesIn = (store: MemoryStore) => store.scan({ prefix: "batch-line/", limit: 1_000 });

test("a gateway that ends in the middle goes on where it was: every line once", async () => {
  const store = new MemoryStore(systemClock);
  const lines = Array.from({ length: 120 }, (_, i) =>
    lineOf(`r${i}`, ask(`question ${i % 100}`, { temperature: i < 60 ? 0 : 1 })),
  );
  const start = () => {
    const own = testGateway({}, 1, systemClock, store);
    const options = { ...naiveDefaults, msPerToken: 2, answerTokens: 5 };
    own.gateway.addSession(new FakeSession("p1", createNaiveEngine({ clock: systemClock }, options)));
    return { own, client: clientOf(own) };
  };
  // It ends without a word, again and again.
  let { own, client } = start();
  const { id } = await submit(client, lines);
  for (let i = 1; i <= 3; i++) {
    await completedLines(client, id, 20 * i);
    own.gateway.close();
    const before = (await linesIn(store)).length;
    assert.ok(before >= 20 * i && before < 120, String(before));
    ({ own, client } = start());
  }
  const batch = await ended(client, id);
  assert.deepEqual(batch.request_counts, { total: 120, completed: 120, failed: 0 });
  const output = await linesOf(client, batch.output_file_id);
  assert.deepEqual(
    output.map(({ custom_id }) => custom_id),
    lines.map((_, i) => `r${i}`),
  );
  assert.equal((await store.scan({ prefix: "file-writing/", limit: 9 })).length, 0);
  own.gateway.close();
});

test("a cancelled batch keeps what is answered, and says what is not", async () => {
  const { own, client } = await gatewayWith({ msPerToken: 3 });
  const { id } = await submit(
    client,
    Array.from({ length: 100 }, (_, i) => lineOf(`r${i}`, ask(`q ${i}`))),
  );
  await completedLines(client, id, 4);
  assert.equal((await client.batches.cancel(id)).status, "cancelling");
  const batch = await ended(client, id);
  assert.equal(batch.status, "cancelled");
  const output = await linesOf(client, batch.output_file_id);
  const errors = await linesOf(client, batch.error_file_id);
  assert.equal(output.length + errors.length, 100);
  assert.ok(output.length >= 4);
  assert.ok(errors.every(({ error }) => error?.code === "batch_cancelled"));
  assert.deepEqual(batch.request_counts, { total: 100, completed: output.length, failed: errors.length });
  own.gateway.close();
});

test("whoever waits for an answer goes first: a full provider's batch makes room, and loses nothing", async () => {
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  const isLine = (prompt: Prompt): boolean => JSON.stringify(prompt).includes("line ");
  const { own, client, session } = await gatewayWith({
    parallelMax: 2,
    answerTokens: 20,
    // Lines come to a halt in the middle: as long as they hold both slots, nobody else is answered.
    onToken: ({ prompt }, position) => (isLine(prompt) && position === 10 ? gate : undefined),
  });
  const lines = Array.from({ length: 4 }, (_, i) => lineOf(`r${i}`, ask(`line ${i}`)));
  const { id } = await submit(client, lines);
  while (session.engine.load().active < 2) await new Promise((resolve) => setTimeout(resolve, 2));
  const answer = await client.chat.completions.create(ask("now", { max_tokens: 2 }) as never);
  assert.equal((answer as OpenAI.ChatCompletion).choices.length, 1);
  assert.equal((await client.batches.retrieve(id)).request_counts!.completed, 0);
  open();
  const batch = await ended(client, id);
  assert.equal(batch.request_counts!.completed, 4);
  const output = await linesOf(client, batch.output_file_id);
  // What had to make room went on at the same token, and costs what it costs undisturbed.
  const undisturbed = await client.chat.completions.create(ask("line 0", { seed: 1 }) as never);
  const { fee } = (undisturbed as OpenAI.ChatCompletion).usage as unknown as { fee: { amount: string } };
  for (const { response } of output) {
    const { usage } = response!.body as unknown as {
      usage: { completion_tokens: number; fee: { amount: string } };
    };
    assert.equal(usage.completion_tokens, 20);
    assert.equal(BigInt(usage.fee.amount), (BigInt(fee.amount) + 1n) / 2n);
  }
  own.gateway.close();
});

test("beside somebody who waits a batch has a share of the slots, none if the operator wants it so", async () => {
  for (const [batchBeside, left] of [
    [0, 0],
    // Until more is known, one in eight.
    [1, 1],
  ] as const) {
    const gates = { line: Promise.withResolvers<void>(), now: Promise.withResolvers<void>() };
    const own = testGateway({ policy: { ...defaultPolicy, exploreShare: 0, batchBeside, batchHoldMs: 20 } });
    const session = await own.add("p1", {
      onToken: ({ prompt }, position) => {
        if (position !== 3) return undefined;
        const text = JSON.stringify(prompt);
        return text.includes("line ")
          ? gates.line.promise
          : text.includes("now")
            ? gates.now.promise
            : undefined;
      },
    });
    const client = clientOf(own);
    const untilActive = async (count: number): Promise<void> => {
      while (session.engine.load().active !== count) await new Promise((resolve) => setTimeout(resolve, 2));
    };
    const lines = Array.from({ length: 8 }, (_, i) => lineOf(`r${i}`, ask(`line ${i}`)));
    const { id } = await submit(client, lines);
    await untilActive(4);
    const answering = client.chat.completions.create(ask("now") as never);
    await untilActive(left + 1);
    // It stays so while somebody waits, and all slots are the batch's again afterwards.
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.equal(session.engine.load().active, left + 1);
    gates.now.resolve();
    await answering;
    await untilActive(4);
    gates.line.resolve();
    assert.equal((await ended(client, id)).request_counts!.completed, 8);
    own.gateway.close();
  }
});

test("providers that fail cost a batch time, not lines", async () => {
  let failures = 0;
  const onToken = (): void => {
    if (failures++ % 7 === 3) throw new Error("a bad day");
  };
  const { own, client } = await gatewayWith({ onToken, answerTokens: 3 });
  await own.add("p2", { answerTokens: 3 });
  const batch = await ended(
    client,
    (
      await submit(
        client,
        Array.from({ length: 30 }, (_, i) => lineOf(`r${i}`, ask(`q ${i}`))),
      )
    ).id,
  );
  assert.deepEqual(batch.request_counts, { total: 30, completed: 30, failed: 0 });
  own.gateway.close();
});
