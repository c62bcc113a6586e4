/**
 * Damaged and hostile converted models and residual vectors, many of them: each must give a model that both executors
 * compute alike, or a SkeinError, in bounded memory.
 *
 *   npm run bench -- exact-fuzz [--quick] [--seed 1] [--cases 100000]
 *
 * A case is its seed; the seeds of a run are consecutive. One that fails is printed and run alone with --cases 1.
 */
import { parseArgs } from "node:util";
import { runFuzzCase } from "../src/exact/container/fuzz.suite.ts";

const { values } = parseArgs({
  options: { quick: { type: "boolean" }, seed: { type: "string" }, cases: { type: "string" } },
});
const cases = Number(values.cases ?? (values.quick === true ? 10_000 : 100_000));
const firstSeed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const outcomes: Record<string, number> = {};

console.log(`seed ${firstSeed}, ${cases} cases`);
const startMs = performance.now();
for (let seed = firstSeed; seed < firstSeed + cases; seed++) {
  try {
    const { what, outcome } = await runFuzzCase(seed);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    if (cases === 1) console.log(`${what}: ${outcome}`);
  } catch (error) {
    console.error(`seed ${seed} failed; again with: npm run bench -- exact-fuzz --seed ${seed} --cases 1`);
    throw error;
  }
}
const seconds = (performance.now() - startMs) / 1000;
const peakBytes = process.resourceUsage().maxRSS * 1024;
console.table({
  ...outcomes,
  "cases per second": Math.round(cases / seconds),
  "peak MB": Math.round(peakBytes / 1e6),
});
console.log(
  JSON.stringify({ name: "exact-fuzz", seed: firstSeed, cases, failures: 0, ...outcomes, peakBytes }),
);
