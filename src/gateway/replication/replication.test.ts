import assert from "node:assert/strict";
import { test } from "node:test";
import type { AnswerChecker } from "../../audit/answer-checker.ts";
import type { AuditView, ProviderView, RequestView, TrustView } from "../../protocol/gateway-api.ts";
import { type ReceiptDocumentView, parseDocument } from "../../receipt/document.ts";
import { checkDocument } from "../../receipt/check-document.ts";
import { sha256 } from "../../engine/sha256.ts";
import { type Cheat, cheatingSession, cheats, type CheatingSession } from "../audits/cheats.suite.ts";
import { auditingGateway, settled } from "../audits/detect.suite.ts";
import { microModels } from "../audits/micro-models.suite.ts";
import { price, reoffer, type TestGateway } from "../fixture.suite.ts";

const models = await microModels();
const honest: Cheat = { name: "none", foundBy: "audit" };
const cheat = cheats.find(({ name }) => name === "another seed")!;
/** The right tokens, and numbers that nobody computed. */
const copier = cheats.find(({ name }) => name === "copied tokens, invented numbers")!;
/** A gateway without the model. */
const nothing = (): AnswerChecker => ({
  has: () => false,
  check: async () => ({ kind: "unable", why: "model not here", detail: "It is not here." }),
  close: async () => undefined,
});

async function join(it: TestGateway, ...providers: readonly Cheat[]): Promise<CheatingSession[]> {
  const sessions = await Promise.all(providers.map((each) => cheatingSession(models, each)));
  for (const session of sessions) it.gateway.addSession(session);
  await new Promise((resolve) => setTimeout(resolve, 30));
  return sessions;
}

interface Answer {
  readonly id: string;
  readonly choices: { text: string }[];
  readonly usage: { prompt_tokens: number; completion_tokens: number; fee: { amount: string } };
  readonly skein: { provider: string; receipt: string; trust: TrustView };
  readonly error?: { code: string; message: string; param: string };
}

const body = { model: "sold", prompt: "once", max_tokens: 16, temperature: 1, seed: 7 };

async function ask(it: TestGateway, trust: string | null, more: object = {}): Promise<Answer> {
  const asked = { ...body, ...(trust === null ? {} : { skein: { trust } }), ...more };
  return (await (await it.post("/v1/completions", asked)).json()) as Answer;
}

async function documentOf(it: TestGateway, id: string): Promise<ReceiptDocumentView> {
  return (await (await it.get(`/v1/requests/${id}/receipt`)).json()) as ReceiptDocumentView;
}

/** Texts of a stream, and what its last chunk says; the error where it was cut. */
async function stream(it: TestGateway, trust: string) {
  const response = await it.post("/v1/completions", { ...body, skein: { trust }, stream: true });
  const events = (await response.text())
    .split("\n\n")
    .filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice("data: ".length)) as Partial<Answer>);
  const text = events.map(({ choices }) => choices?.[0]?.text ?? "").join("");
  return {
    text,
    trust: events.findLast(({ skein }) => skein !== undefined)?.skein?.trust,
    error: events.at(-1)?.error,
  };
}

test("two providers that agree: one answer, two receipts, twice the price", async () => {
  const it = await auditingGateway(models, 20);
  const sessions = await join(it, honest, honest, honest);
  const alone = await ask(it, "exact");
  const both = await ask(it, "replicated:2");
  assert.equal(both.choices[0]!.text, alone.choices[0]!.text);
  const { asked, given, replicas } = both.skein.trust;
  assert.deepEqual([asked, given], ["replicated:2", "replicated:2"]);
  assert.deepEqual(
    replicas!.map(({ outcome }) => outcome),
    ["agreed", "agreed"],
  );
  const providers = new Set(replicas!.map(({ provider }) => provider));
  assert.equal(providers.size, 2);
  assert.equal(BigInt(both.usage.fee.amount), 2n * BigInt(alone.usage.fee.amount));
  assert.equal(both.usage.completion_tokens, alone.usage.completion_tokens);
  // Each signed for itself; the file holds together.
  const document = parseDocument(await documentOf(it, both.id));
  assert.deepEqual(
    document.choices.map(({ index, replica }) => [index, replica]),
    [
      [0, 0],
      [0, 1],
    ],
  );
  assert.ok((await checkDocument(sha256, document)).every(({ problem }) => problem === null));
  const why = (await (await it.get(`/v1/requests/${both.id}`)).json()) as RequestView;
  assert.deepEqual(why.trust, both.skein.trust);
  assert.equal(why.decisions.length, 2);
  assert.ok(sessions.every(({ closed }) => !closed));
  it.gateway.close();
});

test("a quote names the price of all, and too few providers are refused", async () => {
  const it = await auditingGateway(models, 20);
  const sessions = await join(it, honest, honest);
  for (const [i, session] of sessions.entries())
    reoffer(session, {
      price: { ...price, inputPerMillionTokens: BigInt(i + 1) * price.inputPerMillionTokens },
    });
  const quoted = (await (
    await it.post("/v1/quote", { ...body, skein: { trust: "replicated:2" } })
  ).json()) as {
    trust: { fee: { amount: string } };
    total: { fee_min: { amount: string }; fee_max: { amount: string } };
    offers: { fee_min: { amount: string }; fee_max: { amount: string } }[];
  };
  const [cheap, dear] = quoted.offers.map(({ fee_max: most }) => BigInt(most.amount)) as [bigint, bigint];
  assert.ok(cheap < dear);
  assert.equal(BigInt(quoted.total.fee_max.amount), cheap + dear);
  assert.equal(BigInt(quoted.trust.fee.amount), cheap);
  const least = quoted.offers.reduce((sum, { fee_min: one }) => sum + BigInt(one.amount), 0n);
  assert.equal(BigInt(quoted.total.fee_min.amount), least);
  for (const path of ["/v1/quote", "/v1/completions"]) {
    const refused = await it.post(path, { ...body, skein: { trust: "replicated:3" } });
    assert.equal(refused.status, 503);
    const { error } = (await refused.json()) as Answer;
    assert.match(error!.message, /3 independent providers of 'sold'.*2 providers give/);
    assert.equal(error!.param, "skein.trust");
  }
  const unknown = await it.post("/v1/completions", {
    ...body,
    model: "none",
    skein: { trust: "replicated:2" },
  });
  assert.equal(unknown.status, 404);
  for (const trust of ["replicated:1", "replicated:5", "replicated"]) {
    const wrong = await it.post("/v1/completions", { ...body, skein: { trust } });
    assert.equal(wrong.status, 400);
    assert.match(await wrong.text(), /replicated:2 to replicated:4/);
  }
  it.gateway.close();
});

for (const liar of [cheat, copier]) {
  test(`where the gateway has the model it decides: ${liar.name}`, async () => {
    const it = await auditingGateway(models, 20);
    const [right, wrong] = await join(it, honest, liar);
    const due = (await ask(it, null, { skein: { allow: [right!.providerId] } })).choices[0]!.text;
    const { skein, choices, usage, id } = await ask(it, "replicated:2");
    assert.equal(choices[0]!.text, due);
    assert.equal(skein.provider, right!.providerId);
    // The gateway itself is the second party.
    assert.equal(skein.trust.given, "replicated:2");
    assert.deepEqual(
      new Map(skein.trust.replicas!.map(({ provider, outcome }) => [provider, outcome])),
      new Map([
        [right!.providerId, "agreed"],
        [wrong!.providerId, "proved_wrong"],
      ]),
    );
    assert.equal(
      usage.fee.amount,
      (await ask(it, null, { skein: { allow: [right!.providerId] } })).usage.fee.amount,
    );
    const audits = (await settled(it)).filter(({ chosen_by: by }) => by === "dispute");
    const failed = audits.filter(({ result }) => result === "fail");
    assert.deepEqual(
      failed.map(({ provider, chosen_by, request_id }) => [provider, chosen_by, request_id]),
      [[wrong!.providerId, "dispute", id.replace("cmpl-", "")]],
    );
    // Both answers are evidence.
    const shown = (await (await it.get(`/skein/v1/audits/${failed[0]!.receipt}`)).json()) as AuditView;
    const evidence = parseDocument(shown.evidence).choices.map(({ parts }) => parts[0]!.providerId);
    assert.deepEqual(evidence, [wrong!.providerId, right!.providerId]);
    const again = await it.post("/v1/completions", { ...body, skein: { trust: "replicated:2" } });
    assert.equal(again.status, 503, "a provider that was proved wrong is no second one");
    it.gateway.close();
  });
}

test("without the model a majority counts, and costs rank only", async () => {
  const it = await auditingGateway(models, 20, { checker: nothing() });
  const [one, two, wrong] = await join(it, honest, honest, cheat);
  const { skein, usage } = await ask(it, "replicated:3");
  assert.equal(skein.trust.given, "replicated:2");
  const outcomes = new Map(skein.trust.replicas!.map(({ provider, outcome }) => [provider, outcome]));
  assert.deepEqual(
    [one, two, wrong].map((each) => outcomes.get(each!.providerId)),
    ["agreed", "agreed", "outvoted"],
  );
  const alone = await ask(it, null, { skein: { allow: [one!.providerId] } });
  assert.equal(BigInt(usage.fee.amount), 2n * BigInt(alone.usage.fee.amount), "who was outvoted is not paid");
  const audit = (await settled(it)).find(({ chosen_by: by }) => by === "dispute");
  assert.equal(audit!.provider, wrong!.providerId);
  assert.equal(audit!.finding!.kind, "outvoted");
  assert.match(audit!.problem!, /2 of 3 providers gave another answer from token \d/);
  const { reputation } = (await (
    await it.get(`/skein/v1/providers/${wrong!.providerId}`)
  ).json()) as ProviderView;
  assert.deepEqual(reputation!.excluded, []);
  assert.notEqual(reputation!.standing, "suspended");
  assert.equal(reputation!.factors.find(({ name }) => name === "honesty")!.from["improbable"], 1);
  it.gateway.close();
});

test("without the model a third provider breaks a tie; without one nobody is believed", async () => {
  const it = await auditingGateway(models, 20, { checker: nothing() });
  const [, wrong] = await join(it, honest, cheat);
  const refused = await it.post("/v1/completions", { ...body, skein: { trust: "replicated:2" } });
  assert.equal(refused.status, 502);
  assert.match(await refused.text(), /different answers, and nobody here can tell/);
  await join(it, honest);
  const { skein } = await ask(it, "replicated:2");
  assert.equal(skein.trust.given, "replicated:2");
  const outvoted = skein.trust.replicas!.find(({ outcome }) => outcome === "outvoted");
  if (outvoted !== undefined) assert.equal(outvoted.provider, wrong!.providerId);
  it.gateway.close();
});

test("a stream tells what all have delivered, and never what only one has", async () => {
  const it = await auditingGateway(models, 20);
  const [right] = await join(it, honest, cheat, honest);
  const due = await ask(it, null, { skein: { allow: [right!.providerId] } });
  const { text, trust } = await stream(it, "replicated:3");
  assert.equal(text, due.choices[0]!.text);
  assert.equal(trust!.given, "replicated:3");
  it.gateway.close();
  const blind = await auditingGateway(models, 20, { checker: nothing() });
  await join(blind, honest, cheat);
  const cut = await stream(blind, "replicated:2");
  assert.match(cut.error!.message, /different answers/);
  assert.ok(due.choices[0]!.text.startsWith(cut.text) && cut.text.length < due.choices[0]!.text.length);
  blind.gateway.close();
});

test("a replica that loses its provider goes on elsewhere, at nobody else's provider", async () => {
  const it = await auditingGateway(models, 20);
  const broken: Cheat = { name: "breaks off", foundBy: "audit", making: { breaksAt: 5 } };
  const [first] = await join(it, broken, honest);
  const asking = ask(it, "replicated:2");
  const [third] = await join(it, honest);
  const { skein, id } = await asking;
  assert.equal(skein.trust.given, "replicated:2");
  const document = parseDocument(await documentOf(it, id));
  const moved = document.choices.find(({ parts }) => parts.length === 2)!;
  assert.deepEqual(
    moved.parts.map(({ providerId }) => providerId),
    [first!.providerId, third!.providerId],
  );
  it.gateway.close();
});
