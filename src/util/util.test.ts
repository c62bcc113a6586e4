import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { concatBytes, equalBytes, fromHex, sha256, toHex, utf8 } from "./bytes.ts";
import { ManualClock } from "./clock.ts";
import { errorKinds, SkeinError, toSkeinError } from "./errors.ts";
import { seededRandom } from "./random.ts";

test("hexadecimal round trip, and bad input is refused", () => {
  fc.assert(fc.property(fc.uint8Array(), (bytes) => assert.ok(equalBytes(fromHex(toHex(bytes)), bytes))));
  assert.throws(() => fromHex("abc"), RangeError);
  assert.throws(() => fromHex("zz"), RangeError);
});

test("sha256 of the parts is sha256 of the whole", async () => {
  // FIPS 180-4's example for "abc".
  const expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  assert.equal(toHex(await sha256(utf8("a"), utf8("bc"))), expected);
  assert.equal(toHex(await sha256(concatBytes([utf8("ab"), utf8("c")]))), expected);
});

test("a manual clock fires timers in order of their due time and honours cancelling", () => {
  const clock = new ManualClock();
  const fired: string[] = [];
  clock.schedule(20, () => fired.push("b"));
  clock.schedule(10, () => {
    fired.push("a");
    clock.schedule(5, () => fired.push("nested"));
  });
  clock.schedule(15, () => fired.push("cancelled"))();
  clock.advance(16);
  assert.deepEqual(fired, ["a", "nested"]);
  clock.advance(4);
  assert.deepEqual(fired, ["a", "nested", "b"]);
});

test("a seeded generator repeats itself and is roughly uniform", () => {
  const draws = (seed: number): number[] => {
    const random = seededRandom(seed);
    return Array.from({ length: 1000 }, () => random.next());
  };
  assert.deepEqual(draws(7), draws(7));
  assert.notDeepEqual(draws(7), draws(8));
  const mean = draws(7).reduce((sum, value) => sum + value, 0) / 1000;
  assert.ok(Math.abs(mean - 0.5) < 0.05, `mean ${mean}`);
});

test("every error code has a status that its retry hint does not contradict", () => {
  for (const [code, kind] of Object.entries(errorKinds)) {
    assert.ok(kind.status >= 400 && kind.status < 600, code);
    if (kind.type === "invalid_request_error") assert.equal(kind.retry, "never", code);
  }
});

test("unknown failures keep their message and cause", () => {
  const cause = new TypeError("broken");
  const error = toSkeinError(cause, "engine_failed");
  assert.equal(error.code, "engine_failed");
  assert.equal(error.message, "broken");
  assert.equal(error.cause, cause);
  const own = new SkeinError("no_provider", "Nobody.", { hint: "Wait." });
  assert.equal(toSkeinError(own), own);
  assert.equal(own.text, "Nobody. Wait.");
});
