import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import { FairShare } from "./fair-share.ts";
import { type WaitingFor, WaitingRoom, waitingMax } from "./waiting-room.ts";

const never = new AbortController().signal;
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const roomWith = (clock: ManualClock, share = new FairShare(clock)): WaitingRoom =>
  new WaitingRoom(clock, share);

const placeOf = (
  name: string,
  ticket: number,
  waitingFor: WaitingFor = "slot",
  owner = "",
  isBatch = false,
) => ({
  name,
  owner,
  ticket,
  waitingFor,
  isBatch,
});

test("first come, first served; whoever found nothing keeps the place", async () => {
  const room = roomWith(new ManualClock());
  const order: string[] = [];
  const come = (name: string, ticket: number): void =>
    void room.turn(placeOf("m", ticket), 1000, never).then(() => order.push(name));
  const [a, b, c] = [room.ticket(), room.ticket(), room.ticket()];
  come("b", b);
  come("a", a);
  come("c", c);
  room.wake();
  await settle();
  assert.deepEqual(order, ["a"]);
  come("a again", a);
  room.wake();
  room.wake();
  await settle();
  assert.deepEqual(order, ["a", "a again", "b"]);
  assert.equal(room.length, 1);
});

test("each model has its own line; the first looks for itself now and then; time is bounded", async () => {
  const clock = new ManualClock();
  const room = roomWith(clock);
  const turns: boolean[] = [];
  for (const name of ["m", "m", "other"]) {
    void room.turn(placeOf(name, room.ticket()), 300, never).then((turn) => turns.push(turn));
  }
  assert.ok(room.hasLine("m") && !room.hasLine("third"));
  clock.advance(200);
  await settle();
  assert.deepEqual(turns, [true, true], "the first of both lines");
  clock.advance(100);
  await settle();
  assert.deepEqual(turns, [true, true, false]);
  assert.equal(room.length, 0);
});

test("a request that is given up leaves its place; the room is bounded", async () => {
  const room = roomWith(new ManualClock());
  const abort = new AbortController();
  const gone = room.turn(placeOf("m", room.ticket()), 1000, abort.signal);
  abort.abort(new SkeinError("cancelled", "left"));
  await assert.rejects(gone, { code: "cancelled" });
  assert.equal(room.length, 0);
  await assert.rejects(async () => room.turn(placeOf("m", 9), 1000, abort.signal), { code: "cancelled" });
  for (let i = 0; i < waitingMax; i++) void room.turn(placeOf("m", room.ticket()), 1000, never);
  await assert.rejects(async () => room.turn(placeOf("m", room.ticket()), 1000, never), {
    code: "overloaded",
  });
});

test("those who wait for a provider hold up nobody, and look around now and then", async () => {
  const clock = new ManualClock();
  const room = roomWith(clock);
  const order: string[] = [];
  const come = (name: string, waitingFor: WaitingFor): void =>
    void room.turn(placeOf("m", room.ticket(), waitingFor), 1000, never).then(() => order.push(name));
  come("looks", "provider");
  assert.equal(room.hasLine("m"), false);
  come("first", "slot");
  come("looks too", "provider");
  come("second", "slot");
  room.wake();
  await settle();
  assert.deepEqual(order, ["first"]);
  clock.advance(200);
  await settle();
  assert.deepEqual(order.toSorted(), ["first", "looks", "looks too", "second"]);
});

test("lines of batches come last, stand in nobody's way, and give up their places", async () => {
  const room = roomWith(new ManualClock());
  const order: string[] = [];
  const come = (name: string, isBatch: boolean): void =>
    void room.turn(placeOf("m", room.ticket(), "slot", name, isBatch), 1000, never).then(
      () => order.push(name),
      () => order.push(`${name} left`),
    );
  come("batch", true);
  assert.equal(room.hasLine("m", false), false);
  assert.equal(room.hasLine("m", true), true);
  assert.equal(room.lineLength("m"), 0);
  come("late", false);
  for (let i = 0; i < 2; i++) {
    room.wake();
    await settle();
  }
  assert.deepEqual(order, ["late", "batch"]);
  come("batch", true);
  for (let i = 1; i < waitingMax; i++) come("many", false);
  come("one more", false);
  await settle();
  assert.deepEqual(order.slice(2), ["batch left"]);
});

test("who has fewer requests running is next; a flood of one API key does not keep others out", async () => {
  const clock = new ManualClock();
  const share = new FairShare(clock);
  const room = roomWith(clock, share);
  const order: string[] = [];
  const come = (owner: string): Promise<void> =>
    room.turn(placeOf("m", room.ticket(), "slot", owner), 1000, never).then(() => {
      order.push(owner);
      share.began(owner);
    });
  const flood = Array.from({ length: waitingMax }, () => come("many"));
  const few = [come("few"), come("few")];
  const [evicted] = (await Promise.allSettled(flood.slice(-1))) as PromiseRejectedResult[];
  assert.equal((evicted!.reason as SkeinError).code, "overloaded");
  assert.ok((evicted!.reason as SkeinError).retryAfterSeconds! >= 1);
  await Promise.allSettled(flood.slice(-2));
  assert.equal(room.length, waitingMax);
  await assert.rejects(async () => room.turn(placeOf("m", 1e9, "slot", "many"), 1000, never), {
    code: "overloaded",
  });
  for (let i = 0; i < 5; i++) {
    room.wake();
    await settle();
  }
  await Promise.all(few);
  assert.deepEqual(order, ["many", "few", "many", "few", "many"]);
});
