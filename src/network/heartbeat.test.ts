import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "../util/clock.ts";
import { ManualClock } from "../util/clock.ts";
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
  const heard = { pings: 0, silences: 0 };
  const heartbeat = new Heartbeat(
    clock,
    () => (heard.pings += 1),
    () => (heard.silences += 1),
  );
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
