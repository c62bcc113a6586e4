import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { StopMatcher } from "./stop-matcher.ts";

test("however a text is chopped, it is cut before the first stop sequence", () => {
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "é"), maxLength: 30 });
  const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "é"), minLength: 1, maxLength: 4 }), {
    maxLength: 3,
  });
  fc.assert(
    fc.property(fc.array(letters, { maxLength: 12 }), stops, (chunks, stop) => {
      const matcher = new StopMatcher(stop);
      let got = "";
      let stopped = false;
      // The decision is made when the earliest match is complete, as a stream must make it.
      let whole = "";
      let expected: string | null = null;
      for (const chunk of chunks) {
        whole += chunk;
        const result = matcher.push(chunk);
        got += result.text;
        stopped ||= result.stopped;
        const cuts = stop.map((sequence) => whole.indexOf(sequence)).filter((at) => at >= 0);
        if (expected === null && cuts.length > 0) expected = whole.slice(0, Math.min(...cuts));
      }
      got += matcher.flush();
      assert.equal(got, expected ?? whole);
      assert.equal(stopped, expected !== null);
    }),
  );
});

test("only what could begin a stop sequence is held back", () => {
  const matcher = new StopMatcher(["<end>"]);
  assert.deepEqual(matcher.push("hello <e"), { text: "hello ", stopped: false });
  assert.deepEqual(matcher.push("arth"), { text: "<earth", stopped: false });
  assert.deepEqual(matcher.push("<end> more"), { text: "", stopped: true });
  assert.equal(matcher.flush(), "");
});
