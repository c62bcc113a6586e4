import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { SignedEnvelope } from "../protocol/offer.ts";
import { ManualClock } from "../util/clock.ts";
import { equalBytes } from "../util/bytes.ts";
import { seededRandom } from "../util/random.ts";
import type { AuditTask, VerdictLog } from "./ports.ts";
import { runAudits } from "./run.ts";
import { newSigner } from "./signer.suite.ts";
import { checkOpening, type Opening, openOpening, openVerdict, type Verdict, workRoot } from "./verdict.ts";

const random = seededRandom(1);
const rows = [random.bytes(32), random.bytes(32)];
const tasks: readonly AuditTask[] = Array.from({ length: 3 }, (_, round) => ({
  providerId: "12D3KooWprovider",
  receiptHash: random.bytes(32),
  modelId: "m",
  tier: "exact",
  round,
  receipt: { payload: new Uint8Array(), signature: new Uint8Array() },
  claim: null,
}));

function memoryLog() {
  const verdicts: [Verdict, SignedEnvelope][] = [];
  const openings: [Opening, SignedEnvelope][] = [];
  const log: VerdictLog = {
    append: async (...entry) => void verdicts.push(entry),
    appendOpening: async (...entry) => void openings.push(entry),
    about: async (providerId) => verdicts.map(([v]) => v).filter((v) => v.providerId === providerId),
    on: async (hash) =>
      verdicts
        .filter(([{ receiptHash }]) => equalBytes(receiptHash, hash))
        .map(([verdict]) => ({
          verdict,
          opening: openings.find(([o]) => equalBytes(o.receiptHash, hash))?.[0] ?? null,
        })),
  };
  return { log, verdicts, openings };
}

test("every task gets a signed verdict at once, and its proof when others had time to commit", async () => {
  const signer = await newSigner();
  const clock = new ManualClock();
  const { log, verdicts, openings } = memoryLog();
  const waiting = Promise.withResolvers<void>();
  const running = runAudits(
    {
      source: {
        async *tasks() {
          yield* tasks;
          await waiting.promise;
        },
      },
      auditor: {
        auditorId: signer.providerId,
        audit: async ({ round }) => ({
          outcome: round === 1 ? { result: "unable", why: "busy" } : { result: "pass" },
          work: await workRoot(signer.providerId, rows),
        }),
      },
      log,
      signer,
      clock,
      random,
    },
    { openAfterMs: 60_000, onLost: (error) => assert.fail(String(error)) },
    new AbortController().signal,
  );
  while (verdicts.length < tasks.length) await sleep(1);
  assert.equal(openings.length, 0);
  clock.advance(60_000);
  while (openings.length < tasks.length) await sleep(1);
  waiting.resolve();
  await running;
  assert.equal(openings.length, tasks.length);
  for (const [i, task] of tasks.entries()) {
    const [{ verdict, opening }] = (await log.on(task.receiptHash)) as [
      { verdict: Verdict; opening: Opening },
    ];
    assert.equal(verdict.outcome.result, i === 1 ? "unable" : "pass");
    assert.deepEqual(await openVerdict(verdicts[i]![1]), verdict);
    assert.deepEqual(await openOpening(openings[i]![1]), opening);
    assert.equal(await checkOpening(verdict, opening, rows), "proved");
  }
});

test("proofs that are still due come out when the auditor stops", async () => {
  const signer = await newSigner();
  const { log, openings } = memoryLog();
  const auditor = {
    auditorId: signer.providerId,
    audit: async () => ({ outcome: { result: "pass" } as const, work: random.bytes(32) }),
  };
  const source = {
    async *tasks() {
      yield* tasks;
    },
  };
  const deps = { source, auditor, log, signer, clock: new ManualClock(), random };
  await runAudits(deps, { openAfterMs: 1e9, onLost: () => assert.fail() }, new AbortController().signal);
  assert.equal(openings.length, tasks.length);
});
