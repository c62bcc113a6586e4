import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../util/clock.ts";
import { keepRunning, type Mortal, type RestartEvent } from "./keep-running.ts";

class Fake implements Mortal {
  #listeners: ((how: string) => void)[] = [];
  onExit(listener: (how: string) => void): void {
    this.#listeners.push(listener);
  }
  die(how = "signal SIGKILL"): void {
    for (const listener of this.#listeners) listener(how);
  }
}

async function kept(starts: () => Fake) {
  const clock = new ManualClock();
  const stopping = new AbortController();
  const events: RestartEvent[] = [];
  const current = { fake: new Fake(), starts: 0 };
  const start = async (): Promise<Fake> => {
    current.starts += 1;
    current.fake = starts();
    return current.fake;
  };
  await keepRunning({ clock, signal: stopping.signal }, start, (event) => events.push(event));
  return {
    current,
    events,
    stopping,
    pass: async (timeMs: number): Promise<void> => {
      clock.advance(timeMs);
      // Starting is asynchronous.
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

const delays = (events: RestartEvent[]): number[] =>
  events.flatMap((event) => ("retryInMs" in event ? [event.retryInMs] : []));

test("what ends is started again, slower and slower, up to a limit", async () => {
  const { current, events, pass } = await kept(() => new Fake());
  for (let i = 0; i < 7; i++) {
    current.fake.die();
    const { retryInMs } = events.at(-1) as { retryInMs: number };
    await pass(retryInMs - 1);
    assert.equal(current.starts, i + 1, "not before its time");
    await pass(1);
    assert.equal(current.starts, i + 2);
  }
  assert.deepEqual(delays(events), [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
});

test("after a healthy time the first restart is quick again", async () => {
  const { current, events, pass } = await kept(() => new Fake());
  for (let i = 0; i < 3; i++) {
    current.fake.die();
    await pass(30_000);
  }
  await pass(60_000);
  current.fake.die();
  assert.deepEqual(delays(events), [1000, 2000, 4000, 1000]);
});

test("a start that fails is tried again, as often as it takes", async () => {
  let failures = 0;
  let starts = 0;
  const { current, events, pass } = await kept(() => {
    if (starts++ > 0 && failures++ < 10) throw new Error("no room");
    return new Fake();
  });
  current.fake.die();
  for (let i = 0; i < 11; i++) await pass(30_000);
  assert.equal(events.filter(({ type }) => type === "failed").length, 10);
  assert.equal(events.at(-1)!.type, "again");
  assert.ok(delays(events).every((delayMs) => delayMs <= 30_000));
});

test("the first start's failure is told, and nothing is tried again", async () => {
  let starts = 0;
  const failing = (): Fake => {
    starts += 1;
    throw new Error("no such file");
  };
  await assert.rejects(kept(failing), /no such file/);
  assert.equal(starts, 1);
});

test("stopping ends it, also while it waits", async () => {
  const { current, events, stopping, pass } = await kept(() => new Fake());
  current.fake.die();
  stopping.abort();
  await pass(60_000);
  assert.equal(current.starts, 1);
  const other = await kept(() => new Fake());
  other.stopping.abort();
  other.current.fake.die();
  assert.deepEqual([events.length, other.events.length], [1, 0]);
});
