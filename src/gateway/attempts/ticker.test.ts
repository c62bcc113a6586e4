import assert from "node:assert/strict";
import { test } from "node:test";
import { type Clock, ManualClock } from "../../util/clock.ts";
import { Ticker } from "./ticker.ts";

test("it ticks while somebody listens, and says when the process stood still", () => {
  const manual = new ManualClock();
  let stoodMs = 0;
  const clock: Clock = {
    nowMs: () => manual.nowMs(),
    monotonicMs: () => manual.monotonicMs() + stoodMs,
    schedule: (delayMs, callback) => manual.schedule(delayMs, callback),
  };
  const ticker = new Ticker(clock, { tickMs: 500, tickLateMaxMs: 50 });
  const heard: string[] = [];
  const listen = (name: string): (() => void) =>
    ticker.add({ tick: (stoodStill) => heard.push(stoodStill ? `${name}!` : name) });
  const leaveA = listen("a");
  manual.advance(1_000);
  const leaveB = listen("b");
  manual.advance(500);
  // Timers fire as soon as the process goes on, later than they were due.
  stoodMs += 51;
  manual.advance(500);
  manual.advance(500);
  leaveA();
  leaveB();
  manual.advance(10_000);
  assert.equal(heard.join(" "), "a a a b a! b! a b");
  listen("c");
  manual.advance(500);
  assert.equal(heard.at(-1), "c");
});
