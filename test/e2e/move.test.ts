/** A provider that becomes slow in the middle of an answer, as a machine does that has other work. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { sha256 } from "../../src/engine/sha256.ts";
import { checkDocument } from "../../src/receipt/check-document.ts";
import { parseDocument } from "../../src/receipt/document.ts";
import { repeatedTokens, wholeAnswer } from "../../src/receipt/whole-answer.ts";
import type { RequestView } from "../../src/protocol/gateway-api.ts";
import { localNetwork } from "./local-network.ts";
import { providersOf } from "./pool.ts";
import { watchStream } from "./watch-stream.ts";
import { type Running, skeinToEnd } from "./processes.ts";

const network = localNetwork({ exact: 2 });

/** Lets a process run for a moment of every second only; returns a function that ends that. */
function slowDown(child: Running["child"]): () => void {
  const runs = setInterval(() => {
    child.kill("SIGCONT");
    setTimeout(() => child.kill("SIGSTOP"), 10);
  }, 1_000);
  child.kill("SIGSTOP");
  return () => {
    clearInterval(runs);
    // After the last moment's end.
    setTimeout(() => child.kill("SIGCONT"), 50);
  };
}

test("it goes on at the other one, to the byte", { skip: process.platform === "win32" }, async () => {
  const ask = { model: network.exact.model, seed: 1, max_tokens: 700 };
  const expected = await watchStream(network.url, ask);
  assert.equal(expected.error, null);
  // Both have answered: what is usual is known of each.
  for (let seed = 2; seed < 6; seed++) await watchStream(network.url, { ...ask, seed });
  let end: (() => void) | null = null;
  let looking: Promise<void> | null = null;
  const look = async (): Promise<void> => {
    const busy = (await providersOf(network.url, network.exact.model)).find(({ active }) => active > 0);
    const member = network.exact.members.find(({ id }) => id === busy?.id);
    if (member !== undefined) end ??= slowDown(member.child);
    looking = null;
  };
  const watch = async () => {
    const looks = setInterval(() => {
      if (end === null) looking ??= look();
    }, 5);
    try {
      return await watchStream(network.url, ask);
    } finally {
      clearInterval(looks);
    }
  };
  const release = async (): Promise<void> => {
    end?.();
    end = null;
    await sleep(100);
  };
  let seen = await watch();
  // It may be over, or nearly, before it was found out who gives it.
  for (let tries = 1; seen.attempts < 2 && tries < 20; tries++) {
    await release();
    seen = await watch();
  }
  await release();
  assert.deepEqual([seen.error, seen.outputTokens], [null, expected.outputTokens]);
  assert.equal(seen.text, expected.text);
  assert.equal(seen.attempts, 2);
  // Both parts belong together, and what followed the move is signed.
  const receipts = await (await fetch(`${network.url}/v1/requests/${seen.id}/receipt`)).json();
  const document = parseDocument(receipts);
  assert.deepEqual(
    (await checkDocument(sha256, document)).filter(({ problem }) => problem !== null),
    [],
  );
  const [{ parts }] = document.choices as [(typeof document.choices)[0]];
  assert.equal(wholeAnswer(parts).text, seen.text);
  // What both generated meanwhile is told as that, and is counted once.
  assert.equal(parts.length, 2);
  assert.ok(repeatedTokens(parts) >= 0 && parts[1]!.textFrom !== undefined);
  const { output } = await skeinToEnd(network.home.path, "why", seen.id, "--gateway", network.url);
  assert.match(
    output,
    /had become slow at token \d+ \(\d+ ms per token instead of \d+\): the other one caught up/,
  );
  const view = (await (await fetch(`${network.url}/v1/requests/${seen.id}`)).json()) as RequestView;
  assert.equal(view.decisions.at(-1)!.moved!.outcome, "taken_over");
  assert.match(
    await (await fetch(`${network.url}/metrics`)).text(),
    /skein_moves_total\{outcome="won"\} 1\n/,
  );
});
