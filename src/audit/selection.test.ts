import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { seededRandom } from "../util/random.ts";
import { type AuditedParty, auditProbability, defaultAuditPolicy } from "./probability.ts";
import { auditShare, isSelected, shareOne } from "./selection.ts";

const hash = fc.uint8Array({ minLength: 32, maxLength: 32 });

test("the choice is the comparison of the whole hash with p · 2^256, also next to the threshold", async () => {
  await fc.assert(
    fc.asyncProperty(hash, hash, fc.integer({ min: -1, max: 1 }), async (beacon, receipt, beside) => {
      const digest = createHash("sha256").update(beacon).update(receipt).digest("hex");
      // Shares around the first 32 bits of this very hash.
      const share = Math.min(shareOne, Math.max(0, Number.parseInt(digest.slice(0, 8), 16) + beside));
      const expected = BigInt(`0x${digest}`) < (BigInt(share) * 2n ** 256n) / 2n ** 32n;
      assert.equal(await isSelected(beacon, receipt, share), expected);
    }),
  );
});

test("nobody at 0, everybody at 1, and in between the promised part", async () => {
  const random = seededRandom(5);
  const receipts = Array.from({ length: 4_000 }, () => random.bytes(32));
  const beacon = random.bytes(32);
  const chosen = async (p: number): Promise<number> => {
    const selected = await Promise.all(receipts.map((receipt) => isSelected(beacon, receipt, auditShare(p))));
    return selected.filter(Boolean).length / receipts.length;
  };
  assert.equal(await chosen(0), 0);
  assert.equal(await chosen(1), 1);
  // Five standard deviations.
  for (const p of [0.01, 0.25]) {
    assert.ok(Math.abs((await chosen(p)) - p) < 5 * Math.sqrt((p * (1 - p)) / receipts.length));
  }
  assert.equal(auditShare(1e-12), 1, "a rate is never rounded down to none");
  await assert.rejects(isSelected(beacon, new Uint8Array(31), 1), RangeError);
  await assert.rejects(isSelected(beacon, beacon, 0.5), RangeError);
  assert.throws(() => auditShare(1.5), RangeError);
});

const party: AuditedParty = {
  tier: "exact",
  cleanAudits: 0,
  feeNanoUsd: 0n,
  forfeitNanoUsd: null,
  evidence: 1,
};

test("audits get rarer with clean history down to the floor, and come back with value and suspicion", () => {
  const p = (values: Partial<AuditedParty>) => auditProbability({ ...party, ...values });
  assert.deepEqual([p({}).probability, p({}).reason], [0.25, "newcomer"]);
  assert.equal(p({ cleanAudits: 5 }).probability, 0.125);
  assert.deepEqual([p({ cleanAudits: 500 }).probability, p({ cleanAudits: 500 }).reason], [0.01, "floor"]);
  const rich = { cleanAudits: 500, feeNanoUsd: 1_000n, forfeitNanoUsd: 10_000n };
  // g / (S d (1 − r)) = 800 / (10,000 · 0.9)
  assert.ok(Math.abs(p(rich).probability - 800 / 9_000) < 1e-12);
  assert.equal(p(rich).reason, "value at risk");
  assert.equal(p({ ...rich, forfeitNanoUsd: 0n }).probability, 1);
  assert.equal(p({ cleanAudits: 500, evidence: defaultAuditPolicy.evidenceMax }).probability, 1);
  assert.equal(p({ cleanAudits: 500, evidence: 1e-9 }).probability, 0.01);
});

test("more clean audits never raise it; more value and more evidence never lower it", () => {
  const money = fc.bigInt({ min: 0n, max: 10n ** 12n });
  const any = fc.record({
    tier: fc.constantFrom("exact" as const, "float" as const),
    cleanAudits: fc.nat(200),
    feeNanoUsd: money,
    forfeitNanoUsd: fc.option(money),
    evidence: fc.double({ min: 1e-9, max: 1e9, noNaN: true }),
  });
  fc.assert(
    fc.property(
      any,
      fc.nat(50),
      money,
      fc.double({ min: 1, max: 1e6, noNaN: true }),
      (one, n, fee, factor) => {
        const p = auditProbability(one).probability;
        assert.ok(p >= defaultAuditPolicy.floorProbability && p <= 1);
        assert.ok(auditProbability({ ...one, cleanAudits: one.cleanAudits + n }).probability <= p);
        assert.ok(auditProbability({ ...one, feeNanoUsd: one.feeNanoUsd + fee }).probability >= p);
        assert.ok(auditProbability({ ...one, evidence: one.evidence * factor }).probability >= p);
      },
    ),
  );
});
