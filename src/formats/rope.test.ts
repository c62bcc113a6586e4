import assert from "node:assert/strict";
import { test } from "node:test";
import { areUsable, llama3Frequencies, plainFrequencies, yarnFrequencies, yarnMagnitude } from "./rope.ts";

function assertNear(actual: readonly number[], expected: readonly number[]): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of expected.entries()) {
    assert.ok(Math.abs(actual[i]! / value - 1) < 1e-6, `${i}: ${actual[i]} is not ${value}`);
  }
}

// Expected numbers come from transformers' formulas, written down in Python.

test("Llama 3.2 slows its slow pairs down by 32 and mixes between", () => {
  const scaling = { factor: 32, lowFreqFactor: 1, highFreqFactor: 4, originalContext: 8192 };
  assertNear(
    llama3Frequencies(plainFrequencies(16, 500_000), scaling),
    [
      1, 0.193922744749, 0.037606030931, 0.007292664737, 0.000429556797, 0.000008570255, 0.000001661967,
      0.000000322293,
    ],
  );
});

test("YaRN keeps fast pairs and slows slow ones down, with whole and with broken borders", () => {
  const scaling = { base: 1e6, factor: 4, originalContext: 32_768, betaFast: 32, betaSlow: 1 };
  assertNear(
    yarnFrequencies(plainFrequencies(16, 1e6), { ...scaling, isTruncated: true }),
    [
      1, 0.17782794100389226, 0.03162277660168379, 0.004217559938927618, 0.0005, 0.00004445698525097307,
      0.000007905694150420949, 0.0000014058533129758728,
    ],
  );
  const broken = { ...scaling, base: 1e4, originalContext: 512, isTruncated: false };
  assertNear(
    yarnFrequencies(plainFrequencies(16, 1e4), broken),
    [
      1, 0.30140647845953206, 0.07039863663460479, 0.014383359341231184, 0.0025, 0.0007905694150420947,
      0.00025, 0.00007905694150420948,
    ],
  );
  assertNear(
    [yarnMagnitude(4), yarnMagnitude(4, 0.5) / yarnMagnitude(4), yarnMagnitude(0.5)],
    [1.138629436111989, 0.939124428143471, 1],
  );
});

test("a ramp that goes backwards gives nothing, and nothing is not usable", () => {
  const scaling = { base: 1.5, factor: 4, originalContext: 2 ** 30, isTruncated: true };
  const backwards = yarnFrequencies(plainFrequencies(8, 1.5), { ...scaling, betaFast: 1, betaSlow: 32 });
  assert.deepEqual(backwards, []);
  assert.equal(areUsable(backwards, 1), false);
  assert.equal(areUsable([1, 0.5], 1), true);
  for (const bad of [0, -1, Infinity, Number.NaN]) {
    assert.equal(areUsable([1, bad], 1), false);
    assert.equal(areUsable([1], bad), false);
  }
});
