import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../util/clock.ts";
import { type Seen, Uptime } from "./uptime.ts";

function watched() {
  const clock = new ManualClock();
  const sums = { upMs: 0, downMs: 0 };
  const uptime = new Uptime(clock, (_, { upMs, downMs }: Seen) => {
    sums.upMs += upMs;
    sums.downMs += downMs;
  });
  return { clock, sums, uptime };
}

test("who is there is up while its engine runs, and who vanished is down until it is back", () => {
  const { clock, sums, uptime } = watched();
  uptime.joined("p");
  clock.advance(10_000);
  uptime.look("p", true);
  assert.equal(sums.upMs, 0, "not every look is a note");
  clock.advance(50_000);
  uptime.look("p", true);
  clock.advance(5_000);
  uptime.look("p", false);
  clock.advance(1_000);
  uptime.left("p", false);
  assert.deepEqual(sums, { upMs: 61_000, downMs: 5_000 });
  clock.advance(60_000);
  uptime.joined("p");
  assert.deepEqual(sums, { upMs: 61_000, downMs: 65_000 });
});

test("who says that it leaves is not down, and nobody is down for more than an hour", () => {
  const { clock, sums, uptime } = watched();
  uptime.joined("p");
  uptime.left("p", true);
  clock.advance(86_400_000);
  uptime.joined("p");
  assert.equal(sums.downMs, 0);
  uptime.left("p", false);
  clock.advance(86_400_000);
  uptime.joined("p");
  assert.equal(sums.downMs, 3_600_000);
  uptime.look("stranger", true, true);
  assert.equal(sums.upMs, 0);
});
