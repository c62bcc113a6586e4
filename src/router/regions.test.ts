import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { defaultRegionPolicy, doubtfulRegions, isWithin, type Located } from "./regions.ts";

const located = (region: string, floorsMs: readonly (number | null)[]): Located[] =>
  floorsMs.map((floorMs, i) => ({ providerId: `${region}/${i}`, region, floorMs }));
const doubted = (providers: readonly Located[], gatewayRegion = ""): string[] =>
  [...doubtfulRegions(providers, gatewayRegion).keys()].toSorted();

test("who is much farther, or nearer, than the others of a region is doubted", () => {
  assert.deepEqual(doubted(located("eu", [12, 18, 9, 30, 240])), ["eu/4"]);
  assert.deepEqual(doubted(located("ap", [210, 190, 240, 220, 8])), ["ap/4"]);
  const [doubt] = doubtfulRegions(located("eu", [12, 18, 9, 30, 240]), "").values();
  assert.deepEqual(doubt, { region: "eu", measuredMs: 240, usualMs: 18, providers: 5 });
});

test("a part of a region that nobody else declares does not hide anybody", () => {
  const near = located("eu-west", [12, 18, 9, 30]);
  assert.deepEqual(doubted([...near, ...located("eu-nowhere", [240])]), ["eu-nowhere/0"]);
  assert.deepEqual(doubted([...near, ...located("europa", [240])]), [], "another word is another region");
});

test("few, unmeasured and undeclared ones are not judged, nor whoever cannot agree", () => {
  assert.deepEqual(doubted(located("eu", [12, 18, 240])), []);
  assert.deepEqual(doubted(located("eu", [12, 18, 9, null, null])), []);
  assert.deepEqual(doubted(located("", [12, 18, 9, 11, 400])), []);
  assert.deepEqual(doubted(located("eu", [10, 12, 250, 240])), [], "two against two");
});

test("in the gateway's own region the distance alone decides, however many lie", () => {
  const crowd = located("eu", [240, 250, 230, 245, 260, 12, 15]);
  assert.deepEqual(doubted(crowd, "eu"), ["eu/0", "eu/1", "eu/2", "eu/3", "eu/4"]);
  assert.deepEqual(doubted(crowd), ["eu/5", "eu/6"], "elsewhere the majority is believed");
  assert.deepEqual(doubted(located("eu-west", [100]), "eu"), []);
  assert.deepEqual(doubted(located("eu", [400]), "eu-west"), [], "the wider region is not the gateway's own");
});

test("within the margin of each other nobody is ever doubted", () => {
  const { marginMs, ownMaxMs } = defaultRegionPolicy;
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 300 }),
      fc.array(fc.double({ min: 0, max: marginMs, noNaN: true }), { maxLength: 40 }),
      (baseMs, jitter) => {
        assert.deepEqual(
          doubted(
            located(
              "us-east",
              jitter.map((ms) => baseMs + ms),
            ),
          ),
          [],
        );
        assert.deepEqual(
          doubted(
            located(
              "us",
              jitter.map((ms) => Math.min(ownMaxMs, ms)),
            ),
            "us",
          ),
          [],
        );
      },
    ),
  );
});

test("isWithin", () => {
  assert.deepEqual(
    [isWithin("eu", "eu"), isWithin("eu-west", "eu"), isWithin("europe", "eu"), isWithin("eu", "eu-west")],
    [true, true, false, false],
  );
});
