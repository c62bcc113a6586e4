import assert from "node:assert/strict";
import { test } from "node:test";
import { cheatingSession } from "../audits/cheats.suite.ts";
import { auditingGateway, settled } from "../audits/detect.suite.ts";
import { microModels } from "../audits/micro-models.suite.ts";
import { question, testGateway, type TestGateway } from "../fixture.suite.ts";

const models = await microModels();

interface Answer {
  readonly id: string;
  readonly skein: { trust: { asked: string | null; given: string } };
  readonly error?: { code: string; message: string };
}

async function withExact(): Promise<TestGateway> {
  const it = await auditingGateway(models, 20);
  it.gateway.addSession(await cheatingSession(models, { name: "none", foundBy: "audit" }));
  await new Promise((resolve) => setTimeout(resolve, 20));
  return it;
}

async function ask(it: TestGateway, skein: object, headers = {}): Promise<Answer> {
  const body = { model: "sold", prompt: "once", max_tokens: 8, skein };
  return (await (await it.post("/v1/completions", body, headers)).json()) as Answer;
}

test("an answer says which trust was asked for and given, and audits that were asked for come", async () => {
  const it = await withExact();
  assert.deepEqual((await ask(it, {})).skein.trust, { asked: null, given: "exact" });
  assert.deepEqual((await ask(it, { trust: "receipt" })).skein.trust, { asked: "receipt", given: "exact" });
  const before = (await settled(it)).length;
  for (let i = 0; i < 5; i++) {
    const { skein, id } = await ask(it, {}, { "x-skein-trust": "audit:100%" });
    assert.deepEqual(skein.trust, { asked: "audit:100%", given: "audit:100%" });
    const request = (await (await it.get(`/v1/requests/${id}`)).json()) as { trust: unknown };
    assert.deepEqual(request.trust, skein.trust);
  }
  const audits = await settled(it);
  assert.equal(audits.length - before, 5);
  assert.ok(audits.every(({ result }) => result === "pass"));
  it.gateway.close();
});

test("what nobody can give is refused, and not priced", async () => {
  const it = testGateway();
  await it.add("p1");
  for (const trust of ["receipt", "exact", "audit:5%"]) {
    const response = await it.post("/v1/chat/completions", { ...question, skein: { trust } });
    assert.equal(response.status, 503);
    assert.match(await response.text(), /skein.trust asks for/);
    const quoted = await it.post("/v1/quote", { ...question, skein: { trust } });
    assert.equal(quoted.status, 503);
  }
  for (const trust of ["sure", "audit:101%", "audit:", "replicated:1"]) {
    const response = await it.post("/v1/chat/completions", { ...question, skein: { trust } });
    assert.equal(response.status, 400, trust);
  }
  it.gateway.close();
});

test("without a wish the operator's counts, per key or for all", async () => {
  const it = testGateway({
    apiKeys: ["a", "b"],
    modelAccess: { trust: { level: "receipt" }, keyTrust: { b: { level: "exact" } } },
  });
  // A name that could sign.
  await it.add("12D3KooWBKFg7ZB1TgTccxedPiRduY4tEpZvjwCyabzyWkdvCaDK");
  const asked = (key: string): Promise<Response> =>
    it.post("/v1/chat/completions", question, { authorization: `Bearer ${key}` });
  assert.equal((await asked("a")).status, 200);
  const refused = await asked("b");
  assert.equal(refused.status, 503);
  assert.match(await refused.text(), /nobody can compute again/);
  it.gateway.close();
});
