/** 1,000 seeds (`--quick`: 100) of churn, loss, delay and lies in simulated time; the seeds that fail are printed. */
import { simulate } from "./lib/simulation.ts";

const seeds = process.argv.includes("--quick") ? 100 : 1_000;
const failed: number[] = [];
let [clientErrors, alteredAnswers, miscounted, attempts, simulatedMs] = [0, 0, 0, 0, 0];
const startMs = performance.now();
for (let seed = 0; seed < seeds; seed++) {
  const seen = await simulate(seed);
  clientErrors += seen.errors.length;
  alteredAnswers += seen.altered;
  miscounted += seen.miscounted;
  attempts += seen.attempts;
  simulatedMs += seen.simulatedMs;
  if (seen.errors.length + seen.altered + seen.miscounted === 0) continue;
  failed.push(seed);
  console.log(`seed ${seed}: ${JSON.stringify(seen)}`);
}
const elapsedMs = Math.round(performance.now() - startMs);
console.log(
  `${seeds} seeds, ${failed.length} failed; ${Math.round(simulatedMs / 1000)} simulated s in ${elapsedMs} ms`,
);
console.log(
  JSON.stringify({
    seeds,
    failed,
    clientErrors,
    alteredAnswers,
    miscounted,
    attempts,
    simulatedMs,
    elapsedMs,
  }),
);
