import assert from "node:assert/strict";
import { test } from "node:test";
import { runFuzzCase } from "./fuzz.suite.ts";

/** `npm run bench -- formats-fuzz` runs a hundred times as many. */
const cases = 1_000;

test("damaged models give a model or an error that says why, in bounded memory", async () => {
  const firstSeed = Math.floor(Math.random() * 2 ** 31);
  const outcomes = new Map<string, number>();
  for (let seed = firstSeed; seed < firstSeed + cases; seed++) {
    const { outcome } = await runFuzzCase(seed).catch((error: unknown) => {
      throw new Error(`npm run bench -- formats-fuzz --seed ${seed} --cases 1`, { cause: error });
    });
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  assert.deepEqual([...outcomes.keys()].toSorted(), ["invalid_model_file", "opened", "unsupported_model"]);
});
