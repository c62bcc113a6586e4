import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { SignedEnvelope } from "../protocol/offer.ts";
import { decodeCbor, encodeCbor } from "../protocol/cbor.ts";
import { z } from "zod";
import { SkeinError } from "../util/errors.ts";
import { seededRandom } from "../util/random.ts";
import { checkPlanting, commitPlanting, plantedFault, wakefulness } from "./planted.ts";
import { auditShare } from "./selection.ts";
import { newSigner } from "./signer.suite.ts";
import {
  checkOpening,
  commitWork,
  openOpening,
  openVerdict,
  type Outcome,
  signOpening,
  signVerdict,
  type Verdict,
  workRoot,
} from "./verdict.ts";

const auditor = await newSigner();
const bytes = (seed: number): Uint8Array => seededRandom(seed).bytes(32);
const verdict: Verdict = {
  auditorId: auditor.providerId,
  providerId: "12D3KooWprovider",
  receiptHash: bytes(1),
  modelId: "skein-exact-v1:ab",
  tier: "exact",
  round: 28_333_333,
  outcome: { result: "fail", finding: { kind: "layer", position: 712, layer: 3 } },
  commitment: bytes(2),
  issuedAtMs: 1_700_000_000_000,
};
const isRefused = (error: unknown): boolean =>
  error instanceof SkeinError && ["protocol_violation", "invalid_signature"].includes(error.code);

const plain = { noNullPrototype: true } as const;
const anyOutcome: fc.Arbitrary<Outcome> = fc.oneof(
  fc.constant({ result: "pass" } as const),
  fc.record(
    {
      result: fc.constant("fail" as const),
      finding: fc.record(
        {
          kind: fc.constantFrom("token", "layer", "logits", "withheld", "receipt"),
          position: fc.nat(),
          layer: fc.option(fc.nat(100)),
        },
        plain,
      ),
    },
    plain,
  ),
  fc.record({ result: fc.constant("unable" as const), why: fc.constantFrom("timeout", "busy") }, plain),
);

test("every verdict comes back as it was signed, and is small", async () => {
  await fc.assert(
    fc.asyncProperty(anyOutcome, fc.constantFrom("exact", "float"), async (outcome, tier) => {
      const given: Verdict = { ...verdict, outcome, tier };
      const envelope = await signVerdict(auditor, given);
      assert.deepEqual(await openVerdict(envelope), given);
      assert.ok(envelope.payload.length < 450, `${envelope.payload.length} bytes`);
    }),
    { numRuns: 30 },
  );
});

test("any damage is refused, and any bytes are", async () => {
  const envelope = await signVerdict(auditor, verdict);
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
      const payload = Uint8Array.from(envelope.payload);
      const signature = Uint8Array.from(envelope.signature);
      await assert.rejects(openVerdict({ payload: flipped(payload, at, flip), signature }), isRefused);
      await assert.rejects(
        openVerdict({ payload: envelope.payload, signature: flipped(signature, at, flip) }),
        isRefused,
      );
      await assert.rejects(
        openVerdict({ payload: payload.slice(0, at % payload.length), signature }),
        isRefused,
      );
    }),
    { numRuns: 150 },
  );
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 600 }), async (payload) => {
      await assert.rejects(openVerdict({ payload, signature: envelope.signature }), isRefused);
    }),
    { numRuns: 300 },
  );
});

function flipped(given: Uint8Array, at: number, flip: number): Uint8Array {
  const changed = Uint8Array.from(given);
  changed[at % changed.length]! ^= flip;
  return changed;
}

test("contents that mean nothing are refused, also with a right signature", async () => {
  const resigned = async (change: (content: Record<string, unknown>) => void): Promise<SignedEnvelope> => {
    const { payload } = await signVerdict(auditor, verdict);
    const content = decodeCbor(z.record(z.string(), z.unknown()), payload, "verdict");
    change(content);
    const changed = encodeCbor(content);
    const prefix = new TextEncoder().encode("skein-verdict-v1\0");
    return { payload: changed, signature: await auditor.sign(new Uint8Array([...prefix, ...changed])) };
  };
  assert.equal((await openVerdict(await resigned(() => undefined))).round, verdict.round);
  const wrong: ((content: Record<string, unknown>) => void)[] = [
    (content) => (content["extra"] = 1),
    (content) => delete content["round"],
    (content) => (content["receiptHash"] = new Uint8Array(31)),
    (content) => (content["outcome"] = { result: "pass", finding: null }),
    (content) =>
      (content["outcome"] = { result: "fail", finding: { kind: "improbable", position: 1, layer: null } }),
    (content) =>
      (content["outcome"] = { result: "fail", finding: { kind: "layer", position: -1, layer: 0 } }),
    (content) => (content["modelId"] = "m".repeat(3_000)),
    (content) => (content["auditorId"] = "12D3KooWsomebody"),
  ];
  for (const change of wrong) await assert.rejects(openVerdict(await resigned(change)), isRefused);
  // One kind of record does not pass for another.
  await assert.rejects(openOpening(await signVerdict(auditor, verdict)), isRefused);
});

test("only who did the work can open a verdict", async () => {
  const rows = [bytes(3), bytes(4), bytes(5)];
  const salt = bytes(6);
  const work = await workRoot(auditor.providerId, rows);
  const { receiptHash } = verdict;
  const commitment = await commitWork(auditor.providerId, receiptHash, { salt, work });
  const mine = { ...verdict, commitment };
  const opening = { auditorId: auditor.providerId, receiptHash, salt, work };
  assert.deepEqual(await openOpening(await signOpening(auditor, opening)), opening);
  assert.equal(await checkOpening(mine, opening, rows), "proved");
  assert.equal(await checkOpening(mine, opening, null), "proved");
  assert.equal(await checkOpening(mine, opening, rows.slice(1)), "other work");
  assert.equal(await checkOpening(mine, { ...opening, salt: bytes(7) }, rows), "wrong opening");
  assert.equal(await checkOpening(mine, { ...opening, receiptHash: bytes(8) }, rows), "other verdict");
  // A copier repeats commitment and, later, opening under its own name.
  const copied = { ...mine, auditorId: "12D3KooWcopier" };
  assert.equal(
    await checkOpening(copied, { ...opening, auditorId: copied.auditorId }, null),
    "wrong opening",
  );
  // Even one that is told the work before it commits has another's name in it.
  const told = await commitWork(copied.auditorId, receiptHash, { salt, work });
  const toldOpening = { ...opening, auditorId: copied.auditorId };
  assert.equal(await checkOpening({ ...copied, commitment: told }, toldOpening, rows), "other work");
});

test("planted faults: as often as promised, checkable afterwards, and sleepers are found", async () => {
  const secret = bytes(9);
  const share = auditShare(0.05);
  const random = seededRandom(3);
  const receipts = Array.from({ length: 2_000 }, () => random.bytes(32));
  const faults = await Promise.all(receipts.map((receipt) => plantedFault(secret, receipt, share, 40)));
  const planted = receipts.filter((_, i) => faults[i] !== null);
  // Five standard deviations of 100.
  assert.ok(Math.abs(planted.length - 100) < 49, `${planted.length} planted`);
  assert.ok(faults.every((fault) => fault === null || fault.position < 40));
  assert.equal(new Set(faults.map((fault) => fault?.fault)).size, 4, "all kinds, and none");
  const commitment = await commitPlanting(secret);
  const record = { secret, share, planted: planted.map((receiptHash) => ({ receiptHash, positions: 40 })) };
  assert.ok(await checkPlanting(commitment, record));
  const real = receipts.find((_, i) => faults[i] === null)!;
  const lie = { ...record, planted: [{ receiptHash: real, positions: 40 }] };
  assert.ok(!(await checkPlanting(commitment, lie)), "a real failure called planted");
  assert.ok(!(await checkPlanting(commitment, { ...record, secret: bytes(10) })));
  const fault = { fault: "layer", position: 7 } as const;
  const finding = { kind: "layer", position: 7, layer: 2 } as const;
  assert.equal(wakefulness(fault, { result: "fail", finding }), "found");
  assert.equal(wakefulness(fault, { result: "fail", finding: { ...finding, position: 8 } }), "guessed");
  assert.equal(wakefulness(fault, { result: "pass" }), "asleep");
  assert.equal(wakefulness(fault, { result: "unable", why: "busy" }), "unable");
});
