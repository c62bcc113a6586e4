/** Real processes that are killed, stopped, cut off, corrupted and drained while clients read: they notice nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom } from "../../src/util/random.ts";
import { startDelayProxy } from "./delay-proxy.ts";
import { localNetwork } from "./local-network.ts";
import { busiest, preyOf, startHavoc } from "./havoc.ts";
import { Pool, untilAvailable } from "./pool.ts";
import { eventually, within } from "./processes.ts";
import { watchStream } from "./watch-stream.ts";

const seed = Number(process.env["SKEIN_TEST_SEED"] ?? Date.now() % 100_000);
const random = seededRandom(seed);
/** How long the gateway lets a request wait for somebody who can serve it. */
const queueTimeoutMs = 6_000;
process.env["SKEIN_QUEUE_TIMEOUT_MS"] = String(queueTimeoutMs);
const network = localNetwork({ exact: 2, llama: 2 });

const tokens = 300;
const ask = (number: number, onText?: (text: string) => void) =>
  watchStream(network.url, { model: network.exact.model, seed: number, max_tokens: tokens }, onText);

test("50 streams cut by kill -9 at random points: no error, and in the exact tier not one byte altered", async () => {
  const questions = Array.from({ length: 6 }, (_, number) => ({ seed: number, max_tokens: tokens }));
  const expected = await Promise.all(questions.map(({ seed: number }) => ask(number)));
  for (const { error } of expected) assert.equal(error, null);
  const problems: string[] = [];
  const onProblem = (text: string): void => void problems.push(text);
  const common = { questions, clients: 12, errorsMax: 20, pauseMaxMs: 400, timeoutMs: 120_000 };
  const options = { ...common, random: () => random.next(), onProblem };
  const { exact, llama, url } = network;
  const pools = [
    startHavoc(preyOf(url, exact, busiest, { onProblem }), {
      ...options,
      until: { cuts: 30 },
      expected,
    }),
    startHavoc(preyOf(url, llama, busiest, { onProblem }), {
      ...options,
      until: { cuts: 20 },
      expected: null,
    }),
  ];
  await Promise.all(pools.map(({ done }) => done));
  await Promise.all([exact, llama].map((pool) => pool.complete()));
  const seen = pools.map((pool) => pool.seen);
  const told = `seed ${seed}: ${JSON.stringify(seen)}`;
  assert.deepEqual(problems, [], told);
  assert.ok(seen[0]!.cuts + seen[1]!.cuts >= 50, told);
});

test("a provider that goes silent", async () => {
  await untilAvailable(network.url, network.exact.model, 2);
  const expected = await Promise.all([0, 1, 2, 3].map((number) => ask(number)));
  const [victim] = network.exact.members;
  const cuts: number[] = [];
  while (cuts.length < 30 && !cuts.some((count) => count > 0)) {
    victim!.child.kill("SIGCONT");
    await untilAvailable(network.url, network.exact.model, 2);
    let begun = 0;
    const onText = (text: string): void => {
      if (text.length > 20 && ++begun === 3) victim!.child.kill("SIGSTOP");
    };
    // More than one provider takes at once: the router sends a known prompt where it is cached.
    const seen = await Promise.all(Array.from({ length: 12 }, (_, i) => ask(i % 4, onText)));
    seen.forEach(({ text, error }, i) => {
      assert.equal(error, null);
      assert.equal(text, expected[i % 4]!.text);
    });
    cuts.push(seen.filter(({ attempts }) => attempts > 1).length);
  }
  assert.ok(cuts.at(-1)! > 0, "it had nothing to say");
  await network.exact.replace(victim!.id, "SIGKILL");
});

test("bad lines: slow, lossy, damaged, reset, and one that swallows everything", async () => {
  const facts = (await (await fetch(`${network.url}/skein/v1/gateway`)).json()) as { addresses: string[] };
  const [, port, gatewayId] = /\/tcp\/(\d+)\/p2p\/(\w+)/.exec(facts.addresses[0]!)!;
  const proxy = await startDelayProxy(Number(port), { delayMs: 5, jitterMs: 10 }, () => random.next());
  const far = new Pool(network.home.path, "exact", `/ip4/127.0.0.1/tcp/${proxy.port}/p2p/${gatewayId}`);
  try {
    await far.grow(1);
    await untilAvailable(network.url, network.exact.model, 3);
    const expected = await Promise.all([0, 1, 2, 3].map((number) => ask(number)));
    const asking = Array.from({ length: 12 }, (_, i) => ask(i % 4));
    proxy.line.lossRate = 0.05;
    proxy.line.lossStallMs = 200;
    proxy.line.bytesPerSecond = 200_000;
    await sleep(300);
    proxy.line.corruptNext = true;
    await sleep(700);
    proxy.reset();
    await sleep(1_000);
    proxy.line.blackHole = true;
    (await Promise.all(asking)).forEach((seen, i) => {
      assert.equal(seen.error, null, `seed ${seed}`);
      assert.equal(seen.text, expected[i % 4]!.text, `seed ${seed}`);
    });
  } finally {
    for (const { id } of far.members) far.remove(id, "SIGKILL");
    proxy.close();
  }
});

test("every provider is drained and replaced, one after another: nobody notices", async () => {
  await untilAvailable(network.url, network.exact.model, 2);
  const expected = await Promise.all([0, 1, 2].map((number) => ask(number)));
  const rolled = new AbortController();
  const errors: unknown[] = [];
  const client = async (number: number): Promise<void> => {
    for (let i = number; !rolled.signal.aborted; i++) {
      const seen = await ask(i % 3);
      if (seen.error !== null || seen.text !== expected[i % 3]!.text) errors.push(seen);
    }
  };
  const clients = [0, 1, 2, 3].map(client);
  const old = network.exact.members;
  for (const { id, ...leaving } of old) {
    await network.exact.replace(id, "SIGTERM");
    const { code } = await within(leaving.exited(), "the drained provider's end");
    assert.equal(code, 0);
    await untilAvailable(network.url, network.exact.model, 2);
  }
  rolled.abort();
  await Promise.all(clients);
  assert.deepEqual(errors, [], `seed ${seed}`);
});

test("when all providers of a model die, the answer waits, then fails clearly; with a new one it works again", async () => {
  let killed = false;
  const seen = await ask(1, (text) => {
    if (text.length < 20 || killed) return;
    killed = true;
    for (const { id } of network.exact.members) network.exact.remove(id, "SIGKILL");
  });
  assert.ok(killed && /"code":"(?:provider_disconnected|no_provider)"/.test(seen.error ?? ""), seen.error!);
  assert.ok(seen.gapMs < 2 * queueTimeoutMs);
  assert.match((await ask(1)).error ?? "", /no_provider/);
  await network.exact.grow(1);
  await untilAvailable(network.url, network.exact.model, 1);
  await eventually("an answer", async () => ((await ask(1)).error === null ? true : null));
});
