import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fee, freePriceSheet, nanoToUsd, usdToNano } from "./price.ts";

const price = fc.record({
  inputPerMillionTokens: fc.bigInt(0n, 10n ** 12n),
  outputPerMillionTokens: fc.bigInt(0n, 10n ** 12n),
  perSecond: fc.bigInt(0n, 10n ** 10n),
});
const count = fc.integer({ min: 0, max: 10_000_000 });
const consumption = fc.record({ inputTokens: count, outputTokens: count, durationMs: count });

test("a worked example", () => {
  // 1,000 in at $0.15/M, 200 out at $0.60/M, 2.5 s at $0.0001/s: 150,000 + 120,000 + 250,000 nanoUSD.
  const sheet = {
    inputPerMillionTokens: 150_000_000n,
    outputPerMillionTokens: 600_000_000n,
    perSecond: 100_000n,
  };
  assert.equal(fee(sheet, { inputTokens: 1000, outputTokens: 200, durationMs: 2500 }), 520_000n);
});

test("fractions of a nanoUSD round up, once", () => {
  const sheet = { ...freePriceSheet, inputPerMillionTokens: 1n, outputPerMillionTokens: 1n };
  assert.equal(fee(sheet, { inputTokens: 0, outputTokens: 0, durationMs: 0 }), 0n);
  assert.equal(fee(sheet, { inputTokens: 1, outputTokens: 1, durationMs: 0 }), 1n);
  assert.equal(fee(sheet, { inputTokens: 500_000, outputTokens: 500_001, durationMs: 0 }), 2n);
});

test("more consumption never costs less, and parts never cost less than the whole", () => {
  fc.assert(
    fc.property(price, consumption, consumption, (sheet, a, b) => {
      const whole = fee(sheet, {
        inputTokens: a.inputTokens + b.inputTokens,
        outputTokens: a.outputTokens + b.outputTokens,
        durationMs: a.durationMs + b.durationMs,
      });
      const parts = fee(sheet, a) + fee(sheet, b);
      assert.ok(whole >= fee(sheet, a));
      assert.ok(parts >= whole && parts <= whole + 1n);
    }),
  );
});

test("counts must be whole and not negative", () => {
  for (const inputTokens of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => fee(freePriceSheet, { inputTokens, outputTokens: 0, durationMs: 0 }), RangeError);
  }
});

test("decimal USD is exact both ways", () => {
  assert.equal(usdToNano("0.15"), 150_000_000n);
  assert.equal(usdToNano("12"), 12_000_000_000n);
  for (const bad of ["", "-1", "1e3", "0.0000000001", "1,5", "$1"]) assert.equal(usdToNano(bad), null, bad);
  fc.assert(
    fc.property(fc.bigInt(0n, 10n ** 17n), (amount) => assert.equal(usdToNano(nanoToUsd(amount)), amount)),
  );
  assert.equal(nanoToUsd(-1_500_000_000n), "-1.5");
});
