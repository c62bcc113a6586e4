import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { StopMatcher } from "./stop-matcher.ts";

interface Result {
  readonly text: string;
  readonly stopped: boolean;
}

function run(stop: readonly string[], chunks: readonly string[]): Result {
  const matcher = new StopMatcher(stop);
  let text = "";
  let stopped = false;
  for (const chunk of chunks) {
    const pushed = matcher.push(chunk);
    text += pushed.text;
    stopped = pushed.stopped;
  }
  const rest = matcher.flush();
  return { text: text + rest.text, stopped: stopped || rest.stopped };
}

const letters = (limits: fc.StringConstraints): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom("a", "b", "é", "\u{1fabf}"), ...limits });
const stops = fc.array(letters({ minLength: 1, maxLength: 5 }), { maxLength: 4 });

test("however a text is chopped, it is cut where indexOf finds the first stop sequence", () => {
  fc.assert(
    fc.property(fc.array(letters({ maxLength: 8 }), { maxLength: 12 }), stops, (chunks, stop) => {
      const whole = chunks.join("");
      const found = stop.map((sequence) => whole.indexOf(sequence)).filter((at) => at >= 0);
      const expected = found.length === 0 ? whole : whole.slice(0, Math.min(...found));
      assert.equal(run(stop, chunks).text, expected);
      // Even through the middle of a surrogate pair.
      assert.equal(run(stop, whole.split("")).text, expected);
      assert.equal(run(stop, [whole]).text, expected);
    }),
    { numRuns: 2_000 },
  );
});

test("no text is given out that could still belong to a stop sequence, and none is held back for nothing", () => {
  fc.assert(
    fc.property(letters({ maxLength: 20 }), stops, (text, stop) => {
      const { text: certain, stopped } = new StopMatcher(stop).push(text);
      if (stopped) return;
      const held = text.slice(certain.length);
      assert.ok(held === "" || stop.some((sequence) => sequence.startsWith(held)));
      const beginnings = stop.flatMap((sequence) =>
        Array.from({ length: sequence.length }, (_, i) => sequence.slice(0, i)),
      );
      assert.ok(!beginnings.some((beginning) => beginning.length > held.length && text.endsWith(beginning)));
    }),
  );
});

test("only what could begin a stop sequence is held back", () => {
  const matcher = new StopMatcher(["<end>"]);
  assert.deepEqual(matcher.push("hello <e"), { text: "hello ", stopped: false });
  assert.deepEqual(matcher.push("arth"), { text: "<earth", stopped: false });
  assert.deepEqual(matcher.push("<end> more"), { text: "", stopped: true });
  assert.deepEqual(matcher.push("later"), { text: "", stopped: true });
  assert.deepEqual(matcher.flush(), { text: "", stopped: true });
});

test("a match waits while a sequence that began earlier may still complete", () => {
  const matcher = new StopMatcher(["abc", "b"]);
  assert.deepEqual(matcher.push("xab"), { text: "x", stopped: false });
  assert.deepEqual(matcher.push("c"), { text: "", stopped: true });
  assert.deepEqual(run(["abc", "b"], ["xab", "d"]), { text: "xa", stopped: true });
  // At the end nothing can precede it any more.
  assert.deepEqual(run(["abc", "b"], ["xab"]), { text: "xa", stopped: true });
  assert.deepEqual(run(["abc", "bd"], ["xab"]), { text: "xab", stopped: false });
});

test("without stop sequences, and with empty ones, text passes at once", () => {
  assert.deepEqual(new StopMatcher([]).push("abc"), { text: "abc", stopped: false });
  assert.deepEqual(new StopMatcher([""]).push("abc"), { text: "abc", stopped: false });
});

test("long self-similar sequences take linear time", () => {
  const matcher = new StopMatcher(["a".repeat(1_000) + "b", "a".repeat(999) + "c"]);
  // By comparing prefixes this would be 10^11 steps.
  for (let i = 0; i < 1_000; i++) matcher.push("a".repeat(100));
  assert.equal(matcher.push("b").stopped, true);
});
