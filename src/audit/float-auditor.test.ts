import assert from "node:assert/strict";
import { test } from "node:test";
import { greedySampling } from "../protocol/generate.ts";
import { ManualClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import type { CalibrationRecord } from "./calibration.ts";
import { EvidenceBook } from "./evidence-book.ts";
import { createFloatAuditor } from "./float-auditor.ts";
import { streamRequest } from "./honest-streams.ts";
import type { AuditTask } from "./ports.ts";

const calibration: CalibrationRecord = {
  format: "skein-calibration-v1",
  model_id: "m",
  runtime: "r",
  clips: [0.1],
  confidence: 0.99,
  quantile: 0.999,
  streams: 1,
  tokens: 1,
  shapes: [],
  groups: [{ name: "greedy", streams: 1, tokens: 1, off: 0, means: [0], means_max: [0.01] }],
  created_at: "2026-01-01T00:00:00Z",
};
const request = {
  ...streamRequest({ kind: "text", text: "x" }, "greedy", 0, 8),
  sampling: greedySampling,
};
const task: AuditTask = {
  providerId: "p",
  receiptHash: new Uint8Array(32),
  modelId: "m",
  tier: "float",
  round: 1,
  receipt: { payload: new Uint8Array(), signature: new Uint8Array() },
  claim: { request, tokenIds: [1, 2, 3], isEnded: false },
};
const never = new AbortController().signal;

function setup() {
  const clock = new ManualClock();
  const engine = { margins: [0, 0, 0], error: null as SkeinError | null, asked: 0 };
  const auditor = createFloatAuditor({
    auditorId: "a",
    engine: {
      score: async () => {
        engine.asked += 1;
        if (engine.error !== null) throw engine.error;
        return { margins: engine.margins, logProbabilities: [], text: "" };
      },
    },
    calibration,
    book: new EvidenceBook(),
    clock,
  });
  const audit = async (values: Partial<AuditTask> = {}) => auditor.audit({ ...task, ...values }, never);
  return { clock, engine, auditor, audit };
}

test("a flag needs evidence from several answers, names the worst token, and is one verdict", async () => {
  const { engine, audit } = setup();
  assert.deepEqual((await audit()).outcome, { result: "pass" });
  engine.margins = [0.3, 0.7, 0];
  const results: string[] = [];
  for (let i = 0; i < 10; i++) {
    const { outcome } = await audit();
    results.push(outcome.result);
    if (outcome.result === "fail")
      assert.deepEqual(outcome.finding, { kind: "improbable", position: 1, layer: null });
  }
  const first = results.indexOf("fail");
  assert.ok(first > 0, results.join(" "));
  assert.equal(results[first + 1], "pass");
  // Others are not concerned.
  assert.equal((await audit({ providerId: "q" })).outcome.result, "pass");
});

test("evidence of yesterday counts no more", async () => {
  const { clock, engine, audit } = setup();
  engine.margins = [0.3, 0.7, 0];
  for (let day = 0; day < 40; day++) {
    assert.equal((await audit()).outcome.result, "pass");
    clock.advance(25 * 3600_000);
  }
});

test("what cannot be checked is said, not thrown; except a cancellation", async () => {
  const { engine, audit } = setup();
  const why = async (values: Partial<AuditTask> = {}) => {
    const { outcome } = await audit(values);
    return outcome.result === "unable" ? outcome.why : outcome.result;
  };
  assert.equal(await why({ claim: null }), "prompt not shown");
  assert.equal(await why({ modelId: "other" }), "model not here");
  assert.equal(engine.asked, 0);
  for (const [code, expected] of [
    ["overloaded", "busy"],
    ["deadline_exceeded", "timeout"],
    ["invalid_request", "engine version"],
  ] as const) {
    engine.error = new SkeinError(code, "no");
    assert.equal(await why(), expected);
  }
  engine.error = new SkeinError("cancelled", "no");
  await assert.rejects(audit(), /no/);
});
