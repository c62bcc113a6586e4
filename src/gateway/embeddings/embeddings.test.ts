import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { vectorBytes, vectorValues } from "../../protocol/embed.ts";
import { SkeinError } from "../../util/errors.ts";
import { clientOf, failure } from "../client.suite.ts";
import { type FakeSession, reoffer, testGateway } from "../fixture.suite.ts";

const model = "naive";

test("the official client gets vectors, whole and cut, as numbers and as bytes", async () => {
  const gateway = testGateway();
  await gateway.add("one");
  const client = clientOf(gateway);
  // Asks for base64 by itself, and makes numbers of it.
  const own = await client.embeddings.create({ model, input: "goose" });
  assert.deepEqual(own.data[0]!.embedding.length, 16);
  const plain = await client.embeddings.create({ model, input: ["goose", "fox"], encoding_format: "float" });
  assert.deepEqual(
    plain.data.map(({ object, index }) => [object, index]),
    [
      ["embedding", 0],
      ["embedding", 1],
    ],
  );
  assert.deepEqual(plain.data[0]!.embedding.map(Math.fround), [...own.data[0]!.embedding]);
  assert.equal(plain.object, "list");
  assert.equal(plain.model, model);
  assert.deepEqual({ ...plain.usage, fee: null }, { prompt_tokens: 3, total_tokens: 3, fee: null });
  const cut = await client.embeddings.create({
    model,
    input: "goose",
    encoding_format: "float",
    dimensions: 4,
  });
  const kept = plain.data[0]!.embedding.slice(0, 4);
  const length = Math.hypot(...kept);
  assert.ok(cut.data[0]!.embedding.every((value, i) => Math.abs(value - kept[i]! / length) < 1e-6));
});

test("token ids are inputs, too, one list or many", async () => {
  const gateway = testGateway();
  await gateway.add("one");
  const client = clientOf(gateway);
  const one = await client.embeddings.create({ model, input: [1, 2, 3] });
  const many = await client.embeddings.create({ model, input: [[1, 2, 3], [4]] });
  assert.equal(one.usage.prompt_tokens, 3);
  assert.equal(many.usage.prompt_tokens, 4);
  assert.deepEqual(many.data[0]!.embedding, one.data[0]!.embedding);
});

test("many inputs go in groups, at several providers, and come back in order", async () => {
  const gateway = testGateway();
  const sessions = [await gateway.add("one"), await gateway.add("two")];
  const client = clientOf(gateway);
  const input = Array.from({ length: 200 }, (_, i) => `goose ${i}`);
  const { data, usage } = await client.embeddings.create({ model, input });
  assert.equal(data.length, 200);
  assert.equal(sessions[0]!.requests + sessions[1]!.requests, 7);
  for (const i of [0, 31, 32, 199]) {
    const alone = await client.embeddings.create({ model, input: input[i]! });
    assert.deepEqual(data[i]!.embedding, alone.data[0]!.embedding);
  }
  // Four characters a token, a nanodollar each.
  const tokens = input.reduce((sum, text) => sum + Math.ceil(text.length / 4), 0);
  assert.equal(usage.prompt_tokens, tokens);
  assert.equal((usage as unknown as { fee: { amount: string } }).fee.amount, String(tokens));
});

function failing(session: FakeSession, error: SkeinError): void {
  session.engine.embed = () => Promise.reject(error);
}

test("another provider answers when one fails, and nobody else when the request is wrong", async () => {
  const gateway = testGateway();
  const broken = await gateway.add("one");
  failing(broken, new SkeinError("engine_failed", "it fell over"));
  const client = clientOf(gateway);
  await assert.rejects(client.embeddings.create({ model, input: "goose" }), failure(502, null));
  const second = await gateway.add("two");
  const response = await gateway.post("/v1/embeddings", { model, input: "goose" });
  assert.equal(response.status, 200);
  const { skein } = (await response.json()) as { skein: { provider: string; receipt: null } };
  assert.equal(skein.provider, "two");
  assert.equal(skein.receipt, null);
  failing(second, new SkeinError("context_length_exceeded", "too long", { param: "messages" }));
  await assert.rejects(client.embeddings.create({ model, input: "goose" }), failure(400, "input"));
});

test("claims of a provider are bounded by what it was sent", async () => {
  const gateway = testGateway();
  const liar = await gateway.add("one");
  const vectors = [vectorBytes([1, 0])];
  liar.engine.embed = async () => ({ vectors, promptTokens: 1_000_000, durationMs: 1_000_000 });
  const { usage, data } = await clientOf(gateway).embeddings.create({ model, input: "goose" });
  assert.ok(usage.prompt_tokens < 100);
  assert.deepEqual(data[0]!.embedding, [1, 0]);
});

test("what cannot be had is refused by name", async () => {
  const gateway = testGateway();
  const session = await gateway.add("one");
  const client = clientOf(gateway);
  const refused = async (body: object, status: number, param: string | null): Promise<void> => {
    const request = { model, input: "goose", ...body } as never;
    await assert.rejects(client.embeddings.create(request), failure(status, param), JSON.stringify(body));
  };
  for (const input of ["", [], [""], ["a", 1], [1.5], [-1], [[]], {}, null, 7, Array(2_049).fill("a")])
    await refused({ input }, 400, "input");
  await refused({ encoding_format: "hex" }, 400, "encoding_format");
  for (const dimensions of [0, -1, 1.5, "4", 2 ** 40]) await refused({ dimensions }, 400, "dimensions");
  // The model's own answer.
  await refused({ dimensions: 17 }, 400, "dimensions");
  await refused({ input: "x".repeat(2 ** 20 + 1) }, 413, "input");
  await refused({ input: "x".repeat(10_000) }, 400, "input");
  await refused({ skein: { trust: "exact" } }, 400, "skein.trust");
  await refused({ model: "other" }, 404, "model");
  reoffer(session, { features: [] });
  await refused({}, 400, "model");
  assert.equal((await gateway.get("/v1/embeddings")).status, 405);
});

test("a vector's bytes are its numbers", () => {
  fc.assert(
    fc.property(fc.array(fc.float({ noNaN: true }), { maxLength: 20 }), (values) => {
      assert.deepEqual([...vectorValues(vectorBytes(values))], values);
    }),
  );
});
