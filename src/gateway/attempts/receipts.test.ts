import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { createNaiveEngine, naiveDefaults, type NaiveEngineOptions } from "../../engine/naive.ts";
import type { GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import type { RequestWithTerms } from "../../receipt/asked.ts";
import { checkDocument } from "../../receipt/check-document.ts";
import { parseDocument, type ReceiptDocument } from "../../receipt/document.ts";
import { makeSigner, memoryChain, sha256 } from "../../receipt/fixture.suite.ts";
import { withReceipt } from "../../receipt/issue.ts";
import {
  decodeReceipt,
  encodeReceipt,
  type Receipt,
  receiptDigest,
  signReceipt,
} from "../../receipt/receipt.ts";
import { toHex } from "../../util/bytes.ts";
import { systemClock } from "../../util/clock.ts";
import { FakeSession, question, type TestGateway, testGateway } from "../fixture.suite.ts";

const receipts = { retentionMs: 3600_000 };

/** What a provider does to its receipt before it sends it; null: it sends none. */
type Lie = (receipt: Receipt) => Partial<Receipt> | null;

/** A provider with a key of its own. */
async function addSigning(
  { gateway }: TestGateway,
  lie: Lie = () => ({}),
  options: Partial<NaiveEngineOptions> = {},
): Promise<FakeSession> {
  const signer = await makeSigner();
  const deps = { sha256, signer, clock: systemClock, chain: memoryChain() };
  const engine = createNaiveEngine(
    { clock: systemClock },
    { ...naiveDefaults, answerTokens: 12, ...options },
  );
  const session = new FakeSession(signer.providerId, engine);
  const plain = session.events.bind(session);
  async function* signing(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    const { terms, ...rest } = request;
    if (terms === undefined) return yield* plain(rest, signal);
    const issuer = { engine: "naive", opsHash: null };
    const asked: RequestWithTerms = { ...rest, terms };
    for await (const event of withReceipt(deps, issuer, asked, plain(rest, signal))) {
      if (event.type !== "receipt") {
        yield event;
        continue;
      }
      const { receipt } = decodeReceipt(event.encoded);
      const change = lie(receipt);
      if (change === null) continue;
      yield {
        type: "receipt",
        encoded: encodeReceipt(await signReceipt(sha256, signer, { ...receipt, ...change })),
      };
    }
  }
  session.events = signing;
  gateway.addSession(session);
  await new Promise((resolve) => setTimeout(resolve, 20));
  session.requests = 0;
  return session;
}

async function documentOf(it: TestGateway, id: string, headers = {}): Promise<ReceiptDocument> {
  const response = await it.get(`/v1/requests/${id}/receipt`, headers);
  assert.equal(response.status, 200);
  return parseDocument(await response.json());
}

const problemsOf = async (document: ReceiptDocument): Promise<(string | null)[]> =>
  (await checkDocument(sha256, document)).flatMap(({ problem }) => problem ?? []);

test("an answer names its receipt, and whoever asked may have it", async () => {
  const it = testGateway({ receipts, apiKeys: ["mine", "theirs"] });
  await addSigning(it);
  const mine = { authorization: "Bearer mine" };
  const response = await it.post("/v1/chat/completions", question, mine);
  const body = (await response.json()) as {
    id: string;
    choices: { message: { content: string } }[];
    skein: { receipt: string };
  };
  const document = await documentOf(it, body.id, mine);
  assert.deepEqual(await problemsOf(document), []);
  const [part] = document.choices[0]!.parts;
  const digest = toHex(receiptDigest(sha256, part!.receipt!.receipt));
  assert.equal(response.headers.get("x-skein-receipt"), digest);
  assert.equal(body.skein.receipt, digest);
  assert.equal(part!.text, body.choices[0]!.message.content);
  assert.equal(part!.receipt!.receipt.tier, "float");
  assert.deepEqual(document.choices[0]!.prompt, { kind: "chat", messages: question.messages });
  const foreign = await it.get(`/v1/requests/${body.id}/receipt`, { authorization: "Bearer theirs" });
  assert.equal(foreign.status, 404);
  assert.equal((await it.get("/v1/requests/..%2f..%2fx/receipt", mine)).status, 404);
  it.gateway.close();
});

test("streams, several answers and several prompts have their receipts; the official client reads on", async () => {
  const it = testGateway({ receipts });
  await addSigning(it, undefined, { parallelMax: 4 });
  const openai = new OpenAI({
    baseURL: "http://127.0.0.1:4141/v1",
    apiKey: "none",
    maxRetries: 0,
    fetch: (input, init) => it.gateway.fetch(new Request(input, init)),
  });
  const stream = await openai.chat.completions.create({ ...question, stream: true });
  const chunks: { id: string; skein?: { receipt: string | null } }[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  const last = chunks.at(-1);
  const [streamed] = (await documentOf(it, last!.id)).choices;
  assert.equal(last!.skein!.receipt, toHex(receiptDigest(sha256, streamed!.parts[0]!.receipt!.receipt)));
  const several = await openai.completions.create({ model: "naive", prompt: ["a", "b"], n: 2, seed: 4 });
  const document = await documentOf(it, several.id);
  assert.deepEqual(await problemsOf(document), []);
  assert.deepEqual(
    document.choices.map(({ index, parts }) => [index, parts[0]!.asked.chargesPrompt]),
    [
      [0, true],
      [1, false],
      [2, true],
      [3, false],
    ],
  );
  assert.equal(document.choices[0]!.parts[0]!.asked.sampling.seed, 4);
  const { amount } = (several.usage as unknown as { fee: { amount: string } }).fee;
  const signed = document.choices.reduce((sum, { parts }) => sum + parts[0]!.receipt!.receipt.fee, 0n);
  assert.equal(signed, BigInt(amount));
  it.gateway.close();
});

test("an answer that moves on has two receipts that are linked", async () => {
  const it = testGateway({ receipts });
  let dying: FakeSession | undefined;
  const onToken = (_: unknown, position: number): void => {
    if (position === 6 && dying?.closed === false) dying.engine.close().catch(() => undefined);
  };
  dying = await addSigning(it, undefined, { onToken });
  const asking = it.post("/v1/completions", { model: "naive", prompt: "Once", max_tokens: 12 });
  await new Promise((resolve) => setTimeout(resolve, 1));
  await addSigning(it);
  const body = (await (await asking).json()) as { id: string; choices: { text: string }[] };
  const document = await documentOf(it, body.id);
  const { parts } = document.choices[0]!;
  assert.equal(parts.length, 2);
  assert.deepEqual(await problemsOf(document), []);
  assert.deepEqual(parts[1]!.asked.previous, receiptDigest(sha256, parts[0]!.receipt!.receipt));
  assert.equal(parts[0]!.receipt!.receipt.finish, "failed");
  assert.equal(parts.map(({ text }) => text).join(""), body.choices[0]!.text);
  assert.deepEqual(
    parts.map(({ asked }) => asked.chargesPrompt),
    [true, false],
  );
  it.gateway.close();
});

const lies: Record<string, Lie> = {
  "no receipt": () => null,
  "a wrong fee": () => ({ fee: 1n }),
  "another answer": () => ({ outputTextHash: new Uint8Array(32).fill(1) }),
  "more tokens": ({ outputTokens }) => ({ outputTokens: outputTokens + 1 }),
  "another request": () => ({ requestHash: new Uint8Array(32).fill(1) }),
  "another key": () => ({ providerId: "12D3KooWBKFg7ZB1TgTccxedPiRduY4tEpZvjwCyabzyWkdvCaDK" }),
};

for (const [name, lie] of Object.entries(lies)) {
  test(`the client has its answer, but ${name} counts as a failure`, async () => {
    const it = testGateway({ receipts });
    const session = await addSigning(it, lie);
    const response = await it.post("/v1/completions", { model: "naive", prompt: "Once" });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("x-skein-receipt"), null);
    const { id } = (await response.json()) as { id: string };
    const document = await documentOf(it, id);
    assert.notEqual(document.choices[0]!.parts[0]!.problem, null);
    const { data } = (await (await it.get("/skein/v1/providers")).json()) as {
      data: { id: string; state: string; requests: { failed: number } }[];
    };
    const view = data.find((provider) => provider.id === session.providerId)!;
    assert.equal(view.state, "cooling");
    assert.equal(view.requests.failed, 1);
    it.gateway.close();
  });
}

test("two receipts with one number are noticed, though each is right", async () => {
  const it = testGateway({ receipts });
  await addSigning(it, () => ({ sequence: 1 }));
  const problems = [];
  for (let i = 0; i < 2; i++) {
    const { id } = (await (await it.post("/v1/completions", { model: "naive", prompt: `${i}` })).json()) as {
      id: string;
    };
    problems.push((await documentOf(it, id)).choices[0]!.parts[0]!.problem);
  }
  assert.equal(problems[0], null);
  assert.match(problems[1]!, /two receipts with the number 1/);
  it.gateway.close();
});

test("what nobody wants kept is not kept", async () => {
  const it = testGateway({ receipts: { retentionMs: 0 } });
  await addSigning(it);
  const response = await it.post("/v1/completions", { model: "naive", prompt: "Once" });
  assert.match(response.headers.get("x-skein-receipt")!, /^[0-9a-f]{64}$/);
  const { id } = (await response.json()) as { id: string };
  assert.equal((await it.get(`/v1/requests/${id}/receipt`)).status, 404);
  it.gateway.close();
});
