/** What holds for every endpoint: names of models, keys, what is not served, what comes twice, and nonsense. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { clientOf, failure } from "../client.suite.ts";
import { question, testGateway } from "../fixture.suite.ts";

test("aliases lead to models of the network, and are listed", async () => {
  const own = testGateway({ modelAccess: { aliases: { "gpt-4o-mini": "naive", gone: "nobody's" } } });
  await own.add("p1");
  const client = clientOf(own);
  assert.deepEqual(
    (await client.models.list()).data.map(({ id }) => id),
    ["gpt-4o-mini", "naive"],
  );
  assert.equal((await client.models.retrieve("gpt-4o-mini")).id, "gpt-4o-mini");
  const answer = await client.chat.completions.create({ ...question, model: "gpt-4o-mini" });
  // As OpenAI's aliases do, the answer names what answered.
  assert.equal(answer.model, "naive");
  assert.equal((await client.responses.create({ model: "gpt-4o-mini", input: "a" })).model, "naive");
  await assert.rejects(client.chat.completions.create({ ...question, model: "gone" }), failure(404, "model"));
  own.gateway.close();
});

test("an API key sees and uses the models that it may", async () => {
  const own = testGateway({
    apiKeys: ["key-a", "key-b", "key-c"],
    modelAccess: { aliases: { short: "naive" }, keyModels: { "key-b": ["other"], "key-c": ["naive"] } },
  });
  await own.add("p1", { modelId: "naive:1" });
  await own.add("p2", { modelId: "other:1", name: "other" });
  const namesFor = async (key: string): Promise<string[]> =>
    (await clientOf(own, key).models.list()).data.map(({ id }) => id);
  assert.deepEqual(await namesFor("key-a"), ["naive", "other", "short"]);
  assert.deepEqual(await namesFor("key-b"), ["other"]);
  assert.deepEqual(await namesFor("key-c"), ["naive", "short"]);
  const b = clientOf(own, "key-b");
  await b.chat.completions.create({ ...question, model: "other" });
  await b.chat.completions.create({ ...question, model: "other:1" });
  for (const model of ["naive", "naive:1", "short", "nobody's"]) {
    await assert.rejects(b.chat.completions.create({ ...question, model }), failure(403, "model"));
    await assert.rejects(b.responses.create({ model, input: "a" }), failure(403, "model"));
  }
  await assert.rejects(b.models.retrieve("naive"), failure(404, "model"));
  own.gateway.close();
});

test("what no provider offers is said so, and not tried again", async () => {
  const own = testGateway();
  const client = clientOf(own);
  for (const call of [
    client.images.generate({ prompt: "a goose" }),
    client.moderations.create({ input: "a" }),
    client.fineTuning.jobs.list(),
    client.audio.speech.create({ model: "a", input: "a", voice: "alloy" }),
  ]) {
    await assert.rejects(call, failure(404, null));
  }
  const response = await own.get("/v1/images/generations");
  assert.equal(((await response.json()) as { error: { code: string } }).error.code, "unsupported_endpoint");
  own.gateway.close();
});

test("a request that comes again with its idempotency key is done once", async () => {
  const own = testGateway({ apiKeys: ["key-a", "key-b"] });
  const session = await own.add("p1");
  const ask = (body: object, key = "key-a") =>
    own.post("/v1/chat/completions", body, { authorization: `Bearer ${key}`, "idempotency-key": "once" });
  const [first, meanwhile] = await Promise.all([ask(question), ask(question)]);
  assert.deepEqual(
    [first.status, meanwhile.status].toSorted((a, b) => a - b),
    [200, 409],
  );
  const body = (await (first.status === 200 ? first : meanwhile).json()) as { id: string };
  const again = await ask(question);
  assert.equal(again.headers.get("idempotent-replayed"), "true");
  assert.equal(((await again.json()) as { id: string }).id, body.id);
  assert.equal(session.requests, 1);
  assert.equal((await ask({ ...question, temperature: 0 })).status, 409);
  assert.equal((await ask(question, "key-b")).status, 200);
  assert.equal(session.requests, 2);
  // What failed may be tried again.
  const failing = () =>
    own.post(
      "/v1/chat/completions",
      { ...question, model: "late" },
      { authorization: "Bearer key-a", "idempotency-key": "2" },
    );
  assert.equal((await failing()).status, 404);
  await own.add("p2", { modelId: "late:1", name: "late" });
  assert.equal((await failing()).status, 200);
  own.gateway.close();
});

test("nonsense anywhere is a client's error in the endpoint's shape: never a 500, never a hang", async () => {
  const own = testGateway();
  await own.add("p1", { answerTokens: 2 });
  const posts = [
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/count_tokens",
    "/v1/batches",
    "/v1/uploads",
    "/v1/uploads/upload_x/complete",
    "/v1/chat/completions/chatcmpl-x",
    "/v1/responses/resp_x/cancel",
    "/v1/batches/batch_x/cancel",
  ];
  const names = [
    "model",
    "input",
    "messages",
    "metadata",
    "store",
    "background",
    "instructions",
    "previous_response_id",
    "tools",
    "text",
    "max_tokens",
    "max_output_tokens",
    "system",
    "stop_sequences",
    "temperature",
    "input_file_id",
    "endpoint",
    "completion_window",
    "output_expires_after",
    "bytes",
    "filename",
    "mime_type",
    "purpose",
    "expires_after",
    "part_ids",
    "md5",
    "stream",
    "reasoning",
    "include",
    "thinking",
    "tool_choice",
  ];
  const value = fc.oneof(
    fc.constantFrom("naive", "Hello", null, true, 0, 7, 1e300, "", [], {}, "24h", "batch", "/v1/completions"),
    fc.constantFrom(
      [{ role: "user", content: "a" }],
      [{ role: "user", content: [{ type: "text", text: "a" }] }],
      [[]],
      [null],
      [{}],
    ),
    fc.jsonValue(),
  );
  const body = fc.oneof(
    { weight: 9, arbitrary: fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 8 }) },
    { weight: 1, arbitrary: fc.jsonValue() },
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...posts), body, async (path, given) => {
      const response = await own.post(path, given);
      const text = await response.text();
      assert.ok(response.status < 500, `${path} ${response.status} ${text}`);
      if (response.status === 200) return;
      const { error, type } = JSON.parse(text) as { error: Record<string, unknown>; type?: string };
      assert.ok(
        typeof error["message"] === "string" && "param" in error && typeof error["code"] === "string",
      );
      assert.equal(type === "error", path.startsWith("/v1/messages"));
    }),
    { numRuns: 500 },
  );
  const reads = [
    "/v1/files",
    "/v1/batches",
    "/v1/chat/completions",
    "/v1/responses/x/input_items",
    "/v1/files/x/content",
  ];
  const query = fc.dictionary(
    fc.constantFrom("limit", "order", "after", "purpose", "metadata[a]"),
    fc.string({ maxLength: 20 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...reads), query, async (path, given) => {
      const response = await own.get(`${path}?${new URLSearchParams(given).toString()}`);
      assert.ok(response.status < 500, `${path} ${JSON.stringify(given)}`);
      await response.text();
    }),
    { numRuns: 300 },
  );
  own.gateway.close();
});
