import assert from "node:assert/strict";
import { test } from "node:test";
import type { AnswerChecker } from "../../audit/answer-checker.ts";
import { createLoadedChecker } from "../../audit/loaded-checker.ts";
import { openVerdict } from "../../audit/verdict.ts";
import type { AuditView, ProviderView } from "../../protocol/gateway-api.ts";
import { parseDocument } from "../../receipt/document.ts";
import { MemoryStore } from "../../store/memory.ts";
import { fromHex } from "../../util/bytes.ts";
import { systemClock } from "../../util/clock.ts";
import type { TestGateway } from "../fixture.suite.ts";
import { cheatingSession, cheats } from "./cheats.suite.ts";
import { auditingGateway, settled } from "./detect.suite.ts";
import { microModels } from "./micro-models.suite.ts";

const models = await microModels();
const honest = { name: "none", foundBy: "audit" } as const;
const cheat = cheats.find(({ name }) => name === "a smaller model answers")!;
const certain = { model: "sold", prompt: "once", max_tokens: 8, seed: 1, skein: { trust: "audit:100%" } };

async function join(it: TestGateway, what: Parameters<typeof cheatingSession>[1]): Promise<string> {
  const session = await cheatingSession(models, what);
  it.gateway.addSession(session);
  await new Promise((resolve) => setTimeout(resolve, 20));
  return session.providerId;
}

async function json<T>(response: Promise<Response>): Promise<T> {
  return (await (await response).json()) as T;
}

test("a failure is signed, kept with what proves it, and shown to whoever asked", async () => {
  const it = await auditingGateway(models, 20, { apiKeys: ["mine", "theirs"] });
  const mine = { authorization: "Bearer mine" };
  const provider = await join(it, cheat);
  await it.post("/v1/completions", certain, mine);
  const [audit] = await settled(it, mine);
  assert.equal(audit!.result, "fail");
  assert.equal(audit!.evidence, undefined);
  const shown = await json<AuditView>(it.get(`/skein/v1/audits/${audit!.receipt.slice(0, 12)}`, mine));
  const { payload, signature } = shown.verdict!;
  const verdict = await openVerdict({ payload: fromHex(payload), signature: fromHex(signature) });
  assert.equal(verdict.providerId, provider);
  assert.equal(verdict.outcome.result, "fail");
  assert.equal(parseDocument(shown.evidence).choices.length, 1);
  const theirs = { authorization: "Bearer theirs" };
  const other = await json<AuditView>(it.get(`/skein/v1/audits/${audit!.receipt}`, theirs));
  assert.equal(other.evidence, null);
  const { reputation } = await json<ProviderView>(it.get(`/skein/v1/providers/${provider}`, theirs));
  assert.equal(reputation!.standing, "suspended");
  assert.equal(reputation!.excluded[0]!.receipt, audit!.receipt);
  it.gateway.close();
});

test("what was found survives the process", async () => {
  const store = new MemoryStore(systemClock);
  const first = await auditingGateway(models, 20, {}, store);
  const session = await cheatingSession(models, cheat);
  first.gateway.addSession(session);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await first.post("/v1/completions", certain);
  assert.equal((await settled(first))[0]!.result, "fail");
  first.gateway.close();
  const second = await auditingGateway(models, 20, {}, store);
  const again = Object.assign(await cheatingSession(models, honest), { providerId: session.providerId });
  second.gateway.addSession(again);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const refused = await second.post("/v1/completions", certain);
  assert.match(await refused.text(), /proved to have answered wrongly/);
  assert.equal((await settled(second)).length, 1);
  second.gateway.close();
});

test("what cannot be checked is recorded as that, and held against nobody", async () => {
  const checker = {
    has: () => true,
    check: async () => ({ kind: "unable", why: "model not here", detail: "It is gone." }) as const,
    close: async () => undefined,
  };
  const it = await auditingGateway(models, 20, { checker });
  await join(it, honest);
  await it.post("/v1/completions", certain);
  const [audit] = await settled(it);
  assert.deepEqual([audit!.result, audit!.unable], ["unable", "model not here"]);
  assert.equal((await it.post("/v1/completions", certain)).status, 200);
  it.gateway.close();
});

test("the gateway's own requests are audited, and look like all others", async () => {
  const prompt = { kind: "text", text: "the fox" } as const;
  const it = await auditingGateway(models, 20, { canaries: { intervalMs: 10, prompts: [prompt] } });
  await join(it, cheat);
  for (let i = 0; i < 500 && !(await settled(it)).some(({ result }) => result === "fail"); i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const failed = (await settled(it)).find(({ result }) => result === "fail");
  const shown = await json<AuditView>(it.get(`/skein/v1/audits/${failed!.receipt}`));
  const asked = parseDocument(shown.evidence).choices[0]!;
  assert.deepEqual(asked.prompt, prompt);
  assert.match(asked.parts[0]!.asked.requestId, /^[0-9a-f]{24}$/);
  it.gateway.close();
});

test("anybody may have an answer audited; only what its provider signed counts, and only once", async () => {
  const it = await auditingGateway(models, 60_000);
  const provider = await join(it, honest);
  const { id } = await json<{ id: string }>(it.post("/v1/completions", { ...certain, skein: {} }));
  const document = await json<{ choices: { parts: { output: { text: string } }[] }[] }>(
    it.get(`/v1/requests/${id}/receipt`),
  );
  for (let i = 0; i < 2; i++) {
    const { data } = await json<{ data: AuditView[] }>(it.post("/skein/v1/audits", document));
    assert.deepEqual([data[0]!.result, data[0]!.chosen_by, data[0]!.provider], ["pass", "request", provider]);
  }
  const { reputation } = await json<ProviderView>(it.get(`/skein/v1/providers/${provider}`));
  const honesty = reputation!.factors.find(({ name }) => name === "honesty")!;
  assert.equal(honesty.from["passed"], 0, "nobody buys trust with audits of its own");
  document.choices[0]!.parts[0]!.output.text = "something else";
  const forged = await it.post("/skein/v1/audits", document);
  assert.equal(forged.status, 400);
  assert.match(await forged.text(), /does not hold together/);
  it.gateway.close();
});

for (const isHonest of [true, false]) {
  test(`an answer that moved on: ${isHonest ? "nobody is accused" : "only who began it wrongly is accused"}`, async () => {
    const it = await auditingGateway(models, 20);
    const wrong = isHonest
      ? {}
      : { sampling: cheats.find(({ name }) => name === "another seed")!.making!.sampling! };
    const first = await join(it, {
      name: "breaks off",
      foundBy: "audit",
      making: { breaksAt: 20, ...wrong },
    });
    const body = { ...certain, max_tokens: 40, temperature: 1, skein: { trust: "audit:100%" } };
    const asking = it.post("/v1/completions", body);
    const second = await join(it, honest);
    const answer = await asking;
    assert.equal(answer.status, 200, await answer.clone().text());
    const results = (await settled(it)).map(({ provider, result, unable }) => [provider, unable ?? result]);
    const due = isHonest
      ? [
          [first, "pass"],
          [second, "pass"],
        ]
      : [
          [first, "fail"],
          [second, "earlier attempt"],
        ];
    assert.deepEqual(new Map(results as [string, string][]), new Map(due as [string, string][]));
    it.gateway.close();
  });
}

test("a provider that shows its numbers is told where they are wrong, and they are kept", async () => {
  const it = await auditingGateway(models, 20);
  await join(
    it,
    cheats.find(({ name }) => name === "weights requantized to 4 bits")!,
  );
  await it.post("/v1/completions", certain);
  const [audit] = await settled(it);
  const { kind, position, layer } = audit!.finding!;
  // The embedding is as it should be; the first layer is not.
  assert.deepEqual([kind, position, layer], ["layer", 0, 1]);
  assert.match(audit!.problem!, /layer 1/);
  const shown = await json<AuditView>(it.get(`/skein/v1/audits/${audit!.receipt}`));
  const { trace } = shown;
  assert.equal(trace!.position, 0);
  assert.equal(trace!.rows!.length % 64, 0);
  assert.ok(trace!.leaves!.length > 64);
  it.gateway.close();
});

test("one that does not show what it signed cannot defend it", async () => {
  const it = await auditingGateway(models, 20);
  await join(
    it,
    cheats.find(({ name }) => name === "copied tokens, invented numbers")!,
  );
  await it.post("/v1/completions", certain);
  const [audit] = await settled(it);
  assert.deepEqual([audit!.result, audit!.finding!.kind], ["fail", "withheld"]);
  it.gateway.close();
});

interface AuditList {
  readonly data: AuditView[];
  readonly checker: { asleep: boolean; faults_found: number; faults_passed: number };
}

test("a checker that passes everything is noticed before its first verdict, and believed again when it wakes", async () => {
  const awake = createLoadedChecker(models.sold);
  let sleeps = true;
  const checker: AnswerChecker = {
    ...awake,
    check: async (question, signal) => {
      const checked = await awake.check(question, signal);
      if (!sleeps || checked.kind !== "done") return checked;
      return { ...checked, verified: { ...checked.verified, problem: null, fault: null } };
    },
  };
  const it = await auditingGateway(models, 20, { checker });
  const provider = await join(it, cheat);
  for (let i = 0; i < 3; i++) await it.post("/v1/completions", { ...certain, seed: i });
  for (const { result, unable } of await settled(it))
    assert.deepEqual([result, unable], ["unable", "checker failed"]);
  const list = await json<AuditList>(it.get("/skein/v1/audits"));
  assert.deepEqual(list.checker, { asleep: true, faults_found: 0, faults_passed: 3 });
  assert.match(await (await it.get("/metrics")).text(), /^skein_audit_checker_asleep 1$/m);
  const view = await json<ProviderView>(it.get(`/skein/v1/providers/${provider}`));
  assert.equal(view.reputation!.standing, "newcomer");
  sleeps = false;
  await it.post("/v1/completions", { ...certain, seed: 9 });
  assert.equal((await settled(it))[0]!.result, "fail");
  assert.equal((await json<AuditList>(it.get("/skein/v1/audits"))).checker.asleep, false);
  it.gateway.close();
});
