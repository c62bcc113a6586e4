/**
 * 1,000 seeds (`--quick`: 100; `--seeds N`; `--from S`) of churn, loss, delay, lies and leaving clients in simulated
 * time; the seeds that fail are printed. `--seed S` runs one again, the same in every event, and prints them all.
 */
import { parseArgs } from "node:util";
import { simulate, type Simulated } from "./lib/simulation.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    seeds: { type: "string" },
    from: { type: "string", default: "0" },
    quick: { type: "boolean", default: false },
  },
});

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 0 && value < 2 ** 32) return value;
  throw new Error(`--${name} is a whole number, not "${text}".`);
}

function failuresOf({ errors, altered, miscounted, leftovers }: Simulated): number {
  return errors.length + altered + miscounted + leftovers.length;
}

async function one(seed: number): Promise<void> {
  const seen = await simulate(seed, (event) => console.log(event));
  console.log(JSON.stringify({ seed, ...seen, failures: failuresOf(seen) }));
  if (failuresOf(seen) > 0) process.exitCode = 1;
}

async function all(from: number, seeds: number): Promise<void> {
  const failed: number[] = [];
  const sum = {
    clientErrors: 0,
    alteredAnswers: 0,
    miscounted: 0,
    leftovers: 0,
    answers: 0,
    attempts: 0,
    attemptsAtDeceiver: 0,
    attemptsAtHonest: 0,
    simulatedMs: 0,
  };
  const startMs = performance.now();
  for (let seed = from; seed < from + seeds; seed++) {
    const seen = await simulate(seed);
    sum.clientErrors += seen.errors.length;
    sum.alteredAnswers += seen.altered;
    sum.miscounted += seen.miscounted;
    sum.leftovers += seen.leftovers.length;
    sum.answers += seen.answers;
    sum.attempts += seen.attempts;
    sum.attemptsAtDeceiver += seen.attemptsAtDeceiver;
    sum.attemptsAtHonest += seen.attemptsAtHonest;
    sum.simulatedMs += Math.round(seen.simulatedMs);
    if (failuresOf(seen) === 0) continue;
    failed.push(seed);
    console.log(`seed ${seed}: ${JSON.stringify(seen)}`);
  }
  const elapsedMs = Math.round(performance.now() - startMs);
  const simulatedS = Math.round(sum.simulatedMs / 1000);
  console.log(`${seeds} seeds, ${failed.length} failed; ${simulatedS} simulated s in ${elapsedMs} ms`);
  for (const seed of failed) console.log(`again: npm run bench -- simulation --seed ${seed}`);
  console.log(JSON.stringify({ seeds, failedSeeds: failed.length, ...sum, elapsedMs }));
  if (failed.length > 0) process.exitCode = 1;
}

if (values.seed !== undefined) await one(wholeNumber("seed", values.seed));
else {
  const seeds = values.seeds ?? (values.quick ? "100" : "1000");
  await all(wholeNumber("from", values.from), wholeNumber("seeds", seeds));
}
