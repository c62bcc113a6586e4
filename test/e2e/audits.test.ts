/** Audits as an operator meets them: with real processes, by chance and on demand. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { localNetwork } from "./local-network.ts";
import { skeinToEnd } from "./processes.ts";

const network = localNetwork({ exact: 1 });
const { home } = network;

const run = (...args: string[]): Promise<{ code: number | null; output: string }> =>
  skeinToEnd(home.path, ...args, "--gateway", network.url);

/** From the end of an answer to its verdict: two rounds of the beacon. */
const verdictTimeoutMs = 25_000;

test("an answer is audited on demand and by chance, and its provider's reputation says so", async () => {
  const response = await fetch(`${network.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-skein-trust": "audit:100%" },
    body: JSON.stringify({
      model: "tiny-exact",
      messages: [{ role: "user", content: "What sound does a cow make?" }],
      max_tokens: 40,
    }),
  });
  const answer = (await response.json()) as {
    id: string;
    skein: { provider: string; trust: { given: string } };
  };
  assert.equal(answer.skein.trust.given, "audit:100%");
  // 1. On demand.
  const file = join(home.path, "receipt.json");
  assert.equal((await run("receipt", answer.id, file)).code, 0);
  const asked = await run("audit", "run", file);
  assert.equal(asked.code, 0, asked.output);
  assert.match(asked.output, /pass: \d+ positions/);
  // 2. What was changed is not taken.
  const changed = join(home.path, "changed.json");
  writeFileSync(changed, readFileSync(file, "utf8").replace('"fee": "0"', '"fee": "7"'));
  const refused = await run("audit", "run", changed);
  assert.equal(refused.code, 1);
  assert.match(refused.output, /does not hold together/);
  // 3. By chance, which is certain here.
  let list = "";
  for (let waitedMs = 0; waitedMs < verdictTimeoutMs && !list.includes("chosen at"); waitedMs += 500) {
    await sleep(500);
    list = (await run("audit", "list")).output;
  }
  assert.match(list, /pass: \d+ positions .*chosen at 100 %/);
  const shown = await run("providers", answer.skein.provider);
  assert.match(shown.output, /honesty 1\.00: passed 1/);
});
