import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "../util/clock.ts";
import { ManualClock } from "../util/clock.ts";
import { seededRandom } from "../util/random.ts";
import { Heartbeat } from "./heartbeat.ts";
import { heartbeatIntervalMs, heartbeatTimeoutMs } from "./session.ts";

/** A clock whose process can stand still: timers that were due fire late, all at once. */
class StallingClock implements Clock {
  readonly #clock = new ManualClock();
  #stalledMs = 0;
  nowMs = (): number => this.monotonicMs();
  monotonicMs = (): number => this.#clock.monotonicMs() + this.#stalledMs;
  schedule = (delayMs: number, callback: () => void): (() => void) => this.#clock.schedule(delayMs, callback);
  advance(byMs: number): void {
    this.#clock.advance(byMs);
  }
  /** Time passes, but nothing runs until the next `advance`. */
  stall(byMs: number): void {
    this.#stalledMs += byMs;
  }
}

function setUp() {
  const clock = new StallingClock();
  const heard = { ids: [] as number[], silences: 0, reason: "" };
  const heartbeat = new Heartbeat({ clock, random: seededRandom(1) }, "peer", {
    ping: (id) => heard.ids.push(id),
    lost: (reason) => Object.assign(heard, { silences: heard.silences + 1, reason }),
  });
  heartbeat.start();
  return { clock, heartbeat, heard };
}

test("silence is noticed after the timeout, and not before", () => {
  const { clock, heard } = setUp();
  clock.advance(heartbeatTimeoutMs);
  assert.equal(heard.silences, 0);
  clock.advance(heartbeatIntervalMs);
  assert.equal(heard.silences, 1);
});

test("after our own stall the peer gets one more interval to be heard", () => {
  const { clock, heartbeat, heard } = setUp();
  clock.stall(20_000);
  clock.advance(heartbeatIntervalMs);
  assert.equal(heard.silences, 0, "nobody could be heard meanwhile");
  heartbeat.heard();
  clock.advance(heartbeatTimeoutMs);
  assert.equal(heard.silences, 0);
});

test("a peer that stays silent after our stall is given up, also when we stall again", () => {
  for (const stallMs of [0, 20_000]) {
    const { clock, heard } = setUp();
    clock.stall(20_000);
    clock.advance(heartbeatIntervalMs);
    clock.stall(stallMs);
    clock.advance(heartbeatIntervalMs);
    assert.equal(heard.silences, 1);
  }
});

test("a far peer that answers before it is asked does not seem near: no id follows from those before", () => {
  const { clock, heartbeat, heard } = setUp();
  const oneWayMs = 100;
  for (let beat = 0; beat < 20; beat++) {
    // It knows all pings so far, and says what would come next if ids were counted.
    const last = heard.ids.at(-1)!;
    heartbeat.heard();
    clock.advance(2 * oneWayMs);
    heartbeat.pong({ id: last });
    clock.advance(heartbeatIntervalMs - 2 * oneWayMs - 1);
    for (let guess = 1; guess <= 3; guess++) heartbeat.pong({ id: last + guess });
    clock.advance(1);
    for (let guess = 1; guess <= 3; guess++) heartbeat.pong({ id: last + guess });
  }
  assert.equal(heartbeat.roundTripMs, 2 * oneWayMs);
  assert.deepEqual(heartbeat.floor, { ms: 2 * oneWayMs, samples: 20 });
  assert.equal(new Set(heard.ids).size, heard.ids.length);
});

test("a peer that guesses ids again and again is given up", () => {
  const { heartbeat, heard } = setUp();
  for (let id = 0; id < 100 && heard.silences === 0; id++) heartbeat.pong({ id });
  assert.match(heard.reason, /nobody sent/);
});

test("the floor is the shortest of the latest round trips, and none while there is none", () => {
  const { clock, heartbeat, heard } = setUp();
  const beat = (roundTripMs: number): void => {
    heartbeat.heard();
    clock.advance(roundTripMs);
    heartbeat.pong({ id: heard.ids.at(-1)! });
    clock.advance(heartbeatIntervalMs - roundTripMs);
  };
  assert.deepEqual([heartbeat.floor], [null]);
  for (let i = 0; i < 7; i++) beat(20 + i);
  beat(500);
  assert.deepEqual(heartbeat.floor, { ms: 20, samples: 8 });
  for (let i = 0; i < 64; i++) beat(80 + i);
  assert.equal(heartbeat.floor?.ms, 80, "what was short once is forgotten");
});

test("who withholds its first answer is at least as far as that takes", () => {
  const { clock, heartbeat, heard } = setUp();
  clock.advance(700);
  assert.equal(heartbeat.unansweredMs, 700);
  heartbeat.pong({ id: heard.ids[0]! });
  assert.deepEqual([heartbeat.unansweredMs, heartbeat.roundTripMs], [0, 700]);
});
