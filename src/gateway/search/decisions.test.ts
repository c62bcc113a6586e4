/** "Why here?", as the client and the provider can read it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ProviderView, RequestView } from "../../protocol/gateway-api.ts";
import type { GenerateRequest } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import { defaultPolicy } from "../../router/policy.ts";
import { question, testGateway, type TestGateway } from "../fixture.suite.ts";

const chat = "/v1/chat/completions";

async function ask(setup: TestGateway, more: object = {}, headers = {}): Promise<string> {
  const response = await setup.post(chat, { ...question, ...more }, headers);
  await response.text();
  return response.headers.get("x-request-id")!;
}

async function why(setup: TestGateway, id: string, headers = {}): Promise<RequestView> {
  return (await (await setup.get(`/v1/requests/${id}`, headers)).json()) as RequestView;
}

test("a decision says who was chosen, who else there was, what they would have cost, who was rejected", async () => {
  // On a busy machine round trips within it take milliseconds, now and then.
  const setup = testGateway({ policy: { ...defaultPolicy, exploreShare: 0, nearBestMs: 200 } });
  for (const id of ["p1", "p2", "p3"]) await setup.add(id);
  await setup.add("slow", { prefillMs: 400 });
  const view = await why(setup, await ask(setup, { skein: { deny: ["p3"] } }));
  assert.equal(view.status, "ok");
  assert.equal(view.usage!.completion_tokens, 24);
  const [decision] = view.decisions;
  assert.equal(view.decisions.length, 1);
  assert.equal(decision!.offers, 4);
  assert.match(decision!.provider!, /^p[12]$/);
  assert.equal(decision!.reason, "least_loaded_of_near_best");
  assert.deepEqual(decision!.rejected, [{ provider: "p3", reason: "denied" }]);
  assert.deepEqual(decision!.rejected_counts, { denied: 1 });
  const behind = new Map(decision!.candidates.map((c) => [c.provider, c.behind_because]));
  assert.equal(behind.get(decision!.provider!), null);
  assert.equal(behind.get("slow"), "prefill");
  for (const candidate of decision!.candidates) assert.equal(candidate.fee!.amount, view.usage!.fee.amount);
});

test("it says where an attempt failed, after how many tokens, and why", async () => {
  const setup = testGateway();
  let isArmed = true;
  const onToken = ({ requestId }: GenerateRequest, position: number): void => {
    if (requestId === "probe" || !isArmed || position !== 9) return;
    isArmed = false;
    throw new SkeinError("engine_failed", "It crashed.");
  };
  for (const id of ["p1", "p2"]) await setup.add(id, { onToken });
  const { decisions, status } = await why(setup, await ask(setup));
  assert.equal(status, "ok");
  assert.deepEqual(
    decisions.map(({ failed }) => failed && [failed.code, failed.message, failed.position]),
    [["engine_failed", "It crashed.", 9], null],
  );
  assert.notEqual(decisions[0]!.provider, decisions[1]!.provider);
});

test("all names of a request lead to it, failed ones too; only the same API key sees it", async () => {
  const setup = testGateway({ apiKeys: ["one", "two"] });
  const [one, two] = ["one", "two"].map((key) => ({ authorization: `Bearer ${key}` }));
  await setup.add("p1");
  const id = await ask(setup, { skein: { deny: ["p1"] } }, one);
  const bare = id.replace("req_", "");
  for (const name of [id, bare, `chatcmpl-${bare}`]) {
    const { status, decisions } = await why(setup, name, one);
    assert.equal(status, "no_provider");
    assert.deepEqual([decisions[0]!.provider, decisions[0]!.rejected.length], [null, 1]);
  }
  assert.equal((await setup.get(`/v1/requests/${id}`, two)).status, 404);
  assert.equal((await setup.get("/v1/requests/req_unknown", one)).status, 404);
});

test("a provider learns why it gets no work", async () => {
  const setup = testGateway();
  await setup.add("p1", { msPerToken: 10, answerTokens: 4 });
  await setup.add("slow", { prefillMs: 400 });
  const before = await views(setup);
  assert.match(before.get("slow")!.advice, /no request/);
  for (let i = 0; i < 3; i++) await ask(setup);
  const { chosen, passed_over, reasons, advice } = (await views(setup)).get("slow")!;
  assert.deepEqual([chosen, passed_over, reasons[0]?.reason], [0, 3, "prefill"]);
  assert.match(advice, /begin sooner/);
  assert.equal((await views(setup)).get("p1")!.chosen, 3);
});

async function views(setup: TestGateway): Promise<Map<string, ProviderView["work"]>> {
  const { data } = (await (await setup.get("/skein/v1/providers")).json()) as { data: ProviderView[] };
  return new Map(data.map(({ id, work }) => [id, work]));
}
