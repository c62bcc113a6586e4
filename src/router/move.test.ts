import assert from "node:assert/strict";
import { test } from "node:test";
import { candidate } from "./fixture.suite.ts";
import { defaultMovePolicy as policy, isSlow, isWorthMoving, PaceWindow, type StreamPace } from "./move.ts";

/** The pace after looks at a stream: [milliseconds waited, tokens] from each to the next. */
function paceAfter(known: number | null, ...steps: [number, number][]): StreamPace | null {
  const window = new PaceWindow(policy, known);
  let [waitedMs, tokens] = [0, 0];
  let pace = window.look(0, 0);
  for (const [ms, more] of steps) pace = window.look((waitedMs += ms), (tokens += more));
  return pace;
}

const steps = (count: number, ms: number, tokens: number): [number, number][] =>
  Array.from({ length: count }, () => [ms, tokens]);

test("the pace is that of the last window, against the provider's or the stream's own before", () => {
  assert.equal(paceAfter(20, ...steps(5, 500, 25)), null, "too little was seen");
  assert.deepEqual(paceAfter(20, ...steps(20, 500, 25)), { msPerToken: 20, usualMsPerToken: 20 });
  assert.deepEqual(paceAfter(20, ...steps(20, 500, 25), ...steps(6, 500, 1)), {
    msPerToken: 500,
    usualMsPerToken: 20,
  });
  assert.deepEqual(paceAfter(null, ...steps(20, 500, 25), ...steps(6, 500, 1)), {
    msPerToken: 500,
    usualMsPerToken: 20,
  });
  assert.equal(paceAfter(null, ...steps(20, 500, 0)), null, "nothing is usual yet");
  assert.equal(paceAfter(20, ...steps(6, 500, 0))!.msPerToken, 3_000, "silence");
});

test("time in which nobody waited does not count, and what is forgotten neither", () => {
  const window = new PaceWindow(policy, 20);
  for (let i = 0; i < 20; i++) window.look(i * 100, i * 5);
  // The client reads nothing: neither tokens nor waiting.
  for (let i = 0; i < 100; i++) assert.equal(window.look(1_900, 95), null);
  window.forget();
  assert.equal(window.look(60_000, 95), null);
  assert.equal(window.look(62_000, 195), null);
  assert.equal(isSlow(window.look(63_000, 245)!, policy), false);
});

test("slow is far below the usual; a move must end much sooner, by a time that is felt", () => {
  assert.equal(isSlow({ msPerToken: 79, usualMsPerToken: 20 }, policy), false);
  assert.equal(isSlow({ msPerToken: 80, usualMsPerToken: 20 }, policy), true);
  const worth = (msPerToken: number, tokensLeft: number, tpotMs: number | null, tokensEmitted = 0): boolean =>
    isWorthMoving(
      { msPerToken, usualMsPerToken: 20 },
      { tokensEmitted, tokensLeft },
      { candidate: candidate("p", { tpotMs, prefillMsPerToken: 2 }), ttftMs: 100, unknownTpotMs: 10 },
      policy,
    );
  assert.equal(worth(100, 200, 20), true);
  assert.equal(worth(100, 200, 60), false, "no better there");
  assert.equal(worth(100, 20, 10), false, "it ends soon anyway");
  assert.equal(worth(100, 200, 20, 5_000), false, "what was emitted must be read again there");
  assert.equal(worth(100, 200, null), true, "nothing is known of it");
});
