import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SkeinError } from "../util/errors.ts";
import { ManualClock } from "../util/clock.ts";
import { seededRandom } from "../util/random.ts";
import { BeaconRound, commitmentOf } from "./beacon-round.ts";
import {
  aloneChannel,
  type BeaconChannel,
  type BeaconMessage,
  createBeacon,
  createLocalBeacon,
} from "./beacon.ts";

const never = new AbortController().signal;
const secretOf = (seed: number): Uint8Array => seededRandom(seed).bytes(32);

test("a round: the value depends on every secret shown, not on their order", async () => {
  const run = async (order: readonly string[], withholding: readonly string[] = []) => {
    const round = new BeaconRound(7, ["c", "a", "b", "d"]);
    const secrets = new Map(["a", "b", "c"].map((member, i) => [member, secretOf(i)]));
    for (const member of order)
      assert.equal(round.commit(member, await commitmentOf(7, member, secrets.get(member)!)), null);
    round.beginReveal();
    for (const member of order.toReversed()) {
      if (!withholding.includes(member)) assert.equal(await round.reveal(member, secrets.get(member)!), null);
    }
    assert.equal(round.isComplete, withholding.length === 0);
    return (await round.close())!;
  };
  const whole = await run(["a", "b", "c"]);
  assert.deepEqual(await run(["b", "c", "a"]), whole);
  assert.deepEqual([whole.revealed, whole.withheld, whole.absent], [["a", "b", "c"], [], ["d"]]);
  const partial = await run(["a", "b", "c"], ["b"]);
  assert.notDeepEqual(partial.value, whole.value);
  assert.deepEqual([partial.revealed, partial.withheld, partial.absent], [["a", "c"], ["b"], ["d"]]);
});

test("what a round refuses: strangers, second thoughts, late and early messages, copies, other rounds", async () => {
  const round = new BeaconRound(1, ["a", "b", "c"]);
  const secret = secretOf(1);
  const mine = await commitmentOf(1, "a", secret);
  assert.equal(round.commit("x", mine), "not a member");
  assert.equal(round.commit("a", mine.slice(1)), "mismatch");
  assert.equal(round.commit("a", mine), null);
  assert.equal(round.commit("a", await commitmentOf(1, "a", secretOf(2))), "given before");
  // A copy of a's commitment is worth nothing to b; one for another round neither.
  assert.equal(round.commit("b", mine), null);
  assert.equal(round.commit("c", await commitmentOf(2, "c", secretOf(3))), null);
  assert.equal(await round.reveal("a", secret), "too early");
  round.beginReveal();
  assert.equal(round.commit("b", mine), "too late");
  assert.equal(await round.reveal("b", secret), "mismatch");
  assert.equal(await round.reveal("c", secretOf(3)), "mismatch");
  assert.equal(await round.reveal("x", secret), "not a member");
  assert.equal(await round.reveal("a", secret), null);
  assert.equal(await round.reveal("a", secret), "given before");
  const late = round.reveal("c", secretOf(3));
  const result = await round.close();
  assert.equal(await late, "too late");
  assert.deepEqual(result!.revealed, ["a"]);
  assert.equal(await round.reveal("a", secret), "too late");
});

test("nobody reveals: no value", async () => {
  const round = new BeaconRound(1, ["a"]);
  round.commit("a", await commitmentOf(1, "a", secretOf(1)));
  round.beginReveal();
  assert.equal(await round.close(), null);
  assert.throws(() => new BeaconRound(1, []), RangeError);
});

const roundMs = 1_000;

function network(ids: readonly string[]) {
  const clock = new ManualClock(5_300);
  const listeners = new Map<string, (member: string, message: BeaconMessage) => void>();
  const lost = new Set<string>();
  const channelOf = (id: string): BeaconChannel => ({
    send(message) {
      if (lost.has(`${id} ${message.type}`)) return;
      for (const [other, listener] of listeners) if (other !== id) listener(id, message);
    },
    onMessage(listener) {
      listeners.set(id, listener);
      return () => listeners.delete(id);
    },
  });
  const beacons = ids.map((gatewayId, i) =>
    createBeacon(
      { clock, random: seededRandom(i), channel: ids.length === 1 ? aloneChannel : channelOf(gatewayId) },
      { gatewayId, members: () => ids, roundMs },
    ),
  );
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 100) {
      clock.advance(100);
      // WebCrypto answers from another thread.
      await sleep(5);
    }
  };
  return { clock, beacons, pass, lost };
}

test("gateways agree on every round's value, and on who withheld its secret", async () => {
  const { beacons, pass, lost } = network(["a", "b", "c"]);
  const waiting = beacons.map((beacon) => beacon.value(6, never));
  await pass(1_700);
  const values = await Promise.all(waiting);
  assert.deepEqual(values[1], values[0]);
  assert.deepEqual(values[2], values[0]);
  lost.add("b reveal");
  await pass(1_000);
  assert.notDeepEqual(await beacons[0]!.value(7, never), values[0]);
  assert.deepEqual(await beacons[2]!.value(7, never), await beacons[0]!.value(7, never));
  assert.deepEqual(beacons[0]!.result(7)!.withheld, ["b"]);
  for (const beacon of beacons) beacon.close();
});

test("a member whose clock is ahead is counted; a round without members has no value", async () => {
  const clock = new ManualClock(5_300);
  const told: ((member: string, message: BeaconMessage) => void)[] = [];
  const channel: BeaconChannel = {
    send: () => undefined,
    onMessage: (one) => (told.push(one), () => undefined),
  };
  const beacon = createBeacon(
    { clock, random: seededRandom(1), channel },
    { gatewayId: "a", members: (round) => (round === 7 ? [] : ["a", "b"]), roundMs },
  );
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await sleep(5);
  };
  await pass(800);
  const secret = secretOf(3);
  told[0]!("b", { type: "commit", round: 6, commitment: await commitmentOf(6, "b", secret) });
  told[0]!("x", { type: "reveal", round: 6, secret });
  told[0]!("b", { type: "reveal", round: 6, secret });
  await pass(350);
  await pass(400);
  assert.deepEqual(beacon.result(6)!.revealed, ["a", "b"]);
  for (let i = 0; i < 5; i++) await pass(250);
  assert.equal(beacon.result(7), null);
  await assert.rejects(beacon.value(7, never), /no beacon/);
  beacon.close();
});

test("one gateway alone is bound by what it committed to before", async () => {
  const { clock, beacons, pass } = network(["a"]);
  const [beacon] = beacons;
  await pass(1_600);
  const result = beacon!.result(6)!;
  assert.deepEqual(result.revealed, ["a"]);
  assert.deepEqual(await beacon!.value(6, never), result.value);
  await assert.rejects(
    beacon!.value(5, never),
    (error) => error instanceof SkeinError && error.code === "not_found",
  );
  const abort = new AbortController();
  const cancelled = assert.rejects(beacon!.value(99, abort.signal), /cancelled/);
  abort.abort();
  await cancelled;
  await assert.rejects(beacon!.value(99, AbortSignal.abort()), /cancelled/);
  // A receipt of the time after the secrets of a round began to be shown falls to the next one.
  assert.equal(clock.nowMs(), 6_900);
  assert.deepEqual(
    [7_399, 7_401, 8_399].map((nowMs) => beacon!.roundAt(nowMs)),
    [7, 8, 8],
  );
  assert.equal(beacon!.roundAt(0), 6);
  beacon!.close();
});

test("local beacons are reproducible", async () => {
  const one = createLocalBeacon(secretOf(1), roundMs);
  assert.equal(one.roundAt(2_500), 2);
  assert.deepEqual(await one.value(3, never), await createLocalBeacon(secretOf(1), roundMs).value(3, never));
  assert.notDeepEqual(await one.value(3, never), await one.value(4, never));
});
