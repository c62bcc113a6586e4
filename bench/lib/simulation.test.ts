import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { simulate } from "./simulation.ts";

const seeds = Array.from({ length: 100 }, (_, seed) => seed);
const digests = new Map<number, string>();

test("100 seeds of churn, loss, delay and lies: no error, nothing altered, counted twice or left behind", async () => {
  let [answers, attempts, atDeceiver, atHonest] = [0, 0, 0, 0];
  for (const seed of seeds) {
    const { errors, altered, miscounted, leftovers, ...seen } = await simulate(seed);
    assert.deepEqual(
      { errors, altered, miscounted, leftovers },
      { errors: [], altered: 0, miscounted: 0, leftovers: [] },
      `seed ${seed}: npm run bench -- simulation --seed ${seed} shows its events`,
    );
    answers += seen.answers;
    attempts += seen.attempts;
    atDeceiver += seen.attemptsAtDeceiver;
    atHonest += seen.attemptsAtHonest;
    digests.set(seed, seen.digest);
  }
  assert.ok(attempts > answers && answers > 8 * seeds.length, "nothing was disturbed");
  // As near as the others: what it says of where it is, and pings answered before they came, bring it no more than chance does.
  assert.ok(
    // Three standard deviations of a count less the mean of two.
    atDeceiver <= atHonest + 3 * Math.sqrt(1.5 * atHonest),
    `lies brought ${atDeceiver} requests instead of ${atHonest}`,
  );
  assert.equal(new Set(digests.values()).size, seeds.length);
});

test("a seed alone, in a process of its own, has the same events as among others", async () => {
  const bench = fileURLToPath(new URL("../simulation.ts", import.meta.url));
  const flags = ["--disable-warning=ExperimentalWarning", bench, "--seed", "37"];
  const { stdout } = spawnSync(process.execPath, flags, { encoding: "utf8", timeout: 60_000 });
  const events: string[] = [];
  const { digest } = await simulate(37, (event) => events.push(event));
  assert.equal(digest, digests.get(37) ?? digest);
  assert.ok(events.length > 500);
  const lines = stdout.trimEnd().split("\n");
  assert.ok(lines.slice(0, events.length).join("\n") === events.join("\n"), "other events");
  assert.equal(JSON.parse(lines.at(-1)!).digest, digest);
});
