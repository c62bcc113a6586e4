import assert from "node:assert/strict";
import { test } from "node:test";
import type { CalibrationRecord } from "../../audit/calibration.ts";
import type { Scoring } from "../../audit/honest-streams.ts";
import type { Engine } from "../../engine/port.ts";
import { createNaiveEngine, naiveDefaults } from "../../engine/naive.ts";
import type { AuditView, ProviderView } from "../../protocol/gateway-api.ts";
import type { GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import { makeSigner, memoryChain, sha256 } from "../../receipt/fixture.suite.ts";
import { withReceipt } from "../../receipt/issue.ts";
import { MemoryStore } from "../../store/memory.ts";
import type { Store } from "../../store/port.ts";
import { ManualClock, systemClock } from "../../util/clock.ts";
import { FakeSession, type TestGateway, testGateway } from "../fixture.suite.ts";
import { settled } from "./detect.suite.ts";
import { createFloatScales } from "./float-scales.ts";

const engineOptions = { ...naiveDefaults, answerTokens: 30, contextTokensMax: 4_096 };
const calibration: CalibrationRecord = {
  format: "skein-calibration-v1",
  model_id: engineOptions.modelId,
  runtime: "naive",
  clips: [0.1, 1],
  confidence: 0.99,
  quantile: 0.999,
  streams: 100,
  tokens: 10_000,
  shapes: [],
  groups: [{ name: "plain", streams: 100, tokens: 10_000, off: 0, means: [0, 0], means_max: [0.01, 0.01] }],
  created_at: "2026-01-01T00:00:00Z",
};
const newEngine = () => createNaiveEngine({ clock: systemClock }, engineOptions);
const newScales = () =>
  createFloatScales(systemClock, [calibration], async () => newEngine() as Engine & Scoring);

async function floatGateway(store?: Store): Promise<TestGateway> {
  const checker = { has: () => false, check: () => assert.fail("exact"), close: async () => undefined };
  const audits = {
    signer: await makeSigner(),
    checker,
    scales: newScales(),
    roundMs: 10,
    retentionMs: 3600_000,
    canaries: null,
  };
  return testGateway({ receipts: { retentionMs: 3600_000 }, audits }, 1, systemClock, store);
}

type Change = (request: GenerateRequest) => GenerateRequest;
type Edit = (event: GenerateEvent) => GenerateEvent;

/** A provider that computes something else than it was asked for, or tells something else than it computed, and signs it. */
async function join(
  it: TestGateway,
  change: Change = (same) => same,
  edit: Edit = (same) => same,
): Promise<string> {
  const signer = await makeSigner();
  const deps = { sha256, signer, clock: systemClock, chain: memoryChain() };
  const session = new FakeSession(signer.providerId, newEngine());
  const plain = session.events.bind(session);
  async function* edited(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    for await (const event of plain(change(request), signal)) yield edit(event);
  }
  session.events = ({ terms, ...rest }, signal) =>
    terms === undefined
      ? plain(rest, signal)
      : withReceipt(deps, { engine: "naive", opsHash: null }, { ...rest, terms }, edited(rest, signal));
  it.gateway.addSession(session);
  await new Promise((resolve) => setTimeout(resolve, 20));
  return signer.providerId;
}

const otherSeed: Change = (request) => ({
  ...request,
  sampling: { ...request.sampling, seed: request.sampling.seed + 1 },
});

async function ask(it: TestGateway, seed: number): Promise<void> {
  const messages = [{ role: "user", content: "Which goose?" }];
  const answer = await it.post("/v1/chat/completions", { model: "naive", messages, temperature: 1, seed });
  assert.equal(answer.status, 200, await answer.text());
}

async function audited(it: TestGateway, answers: number): Promise<AuditView[]> {
  for (let seed = 1; seed <= answers; seed++) await ask(it, seed);
  return settled(it);
}

async function viewOf(it: TestGateway, id: string): Promise<ProviderView> {
  return (await (await it.get(`/skein/v1/providers/${id}`)).json()) as ProviderView;
}

test("honest answers pass, and their evidence stays small", async () => {
  const it = await floatGateway();
  const id = await join(it);
  const audits = await audited(it, 40);
  assert.ok(audits.length > 3);
  for (const { result, tier, positions } of audits)
    assert.deepEqual([result, tier, positions], ["pass", "float", 31]);
  const { reputation } = await viewOf(it, id);
  assert.equal(reputation!.factors.find(({ name }) => name === "honesty")!.value, 1);
  assert.equal(reputation!.evidence[0]!.log_evidence, 0);
  assert.equal(reputation!.evidence[0]!.tokens, 31 * audits.length);
  it.gateway.close();
});

test("another seed is flagged: it costs rank, and nothing else", async () => {
  const it = await floatGateway();
  const id = await join(it, otherSeed);
  const failed = (await audited(it, 40)).filter(({ result }) => result === "fail");
  assert.ok(failed.length > 0);
  assert.deepEqual([failed[0]!.tier, failed[0]!.finding!.kind], ["float", "improbable"]);
  assert.match(failed[0]!.problem!, /tokens are not the ones that this model draws here; evidence e\^\d/);
  const { reputation } = await viewOf(it, id);
  assert.deepEqual(reputation!.excluded, []);
  assert.notEqual(reputation!.standing, "suspended");
  assert.ok(reputation!.factors.find(({ name }) => name === "honesty")!.value < 0.1);
  // It still answers where nobody else does; beside an honest one it is hardly asked.
  await ask(it, 100);
  const honest = await join(it);
  for (let seed = 200; seed < 220; seed++) await ask(it, seed);
  const chosen = async (provider: string): Promise<number> => (await viewOf(it, provider)).work.chosen;
  assert.ok((await chosen(honest)) >= 15);
  it.gateway.close();
});

test("the right tokens with another text are found", async () => {
  const it = await floatGateway();
  await join(it, undefined, (event) =>
    event.type === "tokens" && event.position === 3 ? { ...event, text: `${event.text}!` } : event,
  );
  const failed = (await audited(it, 30)).find(({ result }) => result === "fail");
  assert.equal(failed!.problem, "its tokens give another text than the one delivered");
  it.gateway.close();
});

test("evidence adds up over restarts", async () => {
  const store = new MemoryStore(systemClock);
  const first = await floatGateway(store);
  const id = await join(first);
  await audited(first, 20);
  const before = (await viewOf(first, id)).reputation!.evidence;
  assert.ok(before[0]!.tokens > 0);
  first.gateway.close();
  const second = await floatGateway(store);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const session = Object.assign(new FakeSession(id, newEngine()));
  second.gateway.addSession(session);
  assert.deepEqual((await viewOf(second, id)).reputation!.evidence, before);
  second.gateway.close();
});

test("a model is loaded when it is needed, with room for the answer, and given back when nobody needs it", async () => {
  const clock = new ManualClock();
  const opened: number[] = [];
  let closed = 0;
  const scales = createFloatScales(clock, [calibration], async (_, contextTokens) => {
    opened.push(contextTokens);
    const score = async () => ({ margins: [0], logProbabilities: [0], text: "" });
    return { generate: () => assert.fail("it only reads"), score, close: async () => void (closed += 1) };
  });
  assert.equal(scales.calibrationOf("another"), null);
  const never = new AbortController().signal;
  const score = (contextTokens: number) =>
    scales.score(calibration.model_id, {} as never, contextTokens, never);
  await Promise.all([score(100), score(2_000)]);
  assert.deepEqual([opened, closed], [[2_048], 0]);
  await score(5_000);
  assert.deepEqual([opened, closed], [[2_048, 5_000], 1]);
  clock.advance(60_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(closed, 2);
  await score(100);
  await scales.close();
  assert.deepEqual([opened.length, closed], [3, 3]);
});
