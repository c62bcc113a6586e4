import assert from "node:assert/strict";
import { test } from "node:test";
import type { NetworkCoordinate } from "../protocol/coordinate.ts";
import { seededRandom } from "../util/random.ts";
import { distanceMs, firstCoordinate } from "./coordinates.ts";
import { OwnWhereabouts } from "./whereabouts.ts";

const at = (x: number, y: number, heightMs = 5, error = 0.1): NetworkCoordinate => ({
  positionMs: firstCoordinate.positionMs.map((_, i) => (i === 0 ? x : i === 1 ? y : 0)),
  heightMs,
  error,
});
const landmarks = [at(0, 0), at(100, 0), at(0, 100), at(120, 120), at(-60, 40)];
const here = at(30, 50);

/** Somebody at `here`, who measured all landmarks for a while. */
function settled(lie: (coordinate: NetworkCoordinate, i: number) => NetworkCoordinate = (c) => c) {
  const own = new OwnWhereabouts({ random: seededRandom(3) });
  for (let round = 0; round < 200; round++) {
    landmarks.forEach((landmark, i) => own.learn(`p${i}`, distanceMs(here, landmark), landmark));
  }
  // Whoever lies begins when it is believed.
  for (let round = 0; round < 200; round++) {
    landmarks.forEach((landmark, i) => own.learn(`p${i}`, distanceMs(here, landmark), lie(landmark, i)));
  }
  return own;
}

test("a peer that was never measured is estimated from its coordinate, uncertainty included", () => {
  const own = settled();
  const unmeasured = at(60, 90);
  const [estimateMs, realMs] = [own.estimateMs("new", unmeasured)!, distanceMs(here, unmeasured)];
  assert.ok(estimateMs > realMs && estimateMs < 1.5 * realMs, `${estimateMs} for ${realMs}`);
  const unsure = own.estimateMs("new", { ...unmeasured, error: 0.7 })!;
  assert.ok(unsure > estimateMs, "a peer that is unsure is taken for farther");
});

test("nothing is estimated by who knows nothing, nor of who knows nothing", () => {
  assert.equal(new OwnWhereabouts({ random: seededRandom(1) }).estimateMs("p", here), null);
  assert.equal(settled().estimateMs("new", firstCoordinate), null);
});

test("a coordinate that contradicts the measurement moves nothing, is counted, and has no estimate any more", () => {
  const truthful = settled();
  const far = at(2_000, -3_000, 5, 0.05);
  const lied = settled((coordinate, i) => (i === 0 ? far : coordinate));
  const apartMs = Math.hypot(
    ...lied.coordinate.positionMs.map((x, i) => x - truthful.coordinate.positionMs[i]!),
  );
  assert.ok(apartMs < 10, `moved by ${apartMs} ms`);
  assert.ok(lied.recordOf("p0").contradictions >= 200);
  assert.equal(lied.recordOf("p1").contradictions, 0);
  assert.equal(lied.estimateMs("p0", at(31, 51)), null, "also when it tells another one");
  assert.notEqual(lied.estimateMs("p1", landmarks[1]!), null);
});

test("who lies from the first word on does no lasting harm", () => {
  const own = new OwnWhereabouts({ random: seededRandom(5) });
  for (let round = 0; round < 400; round++) {
    // It stands always where this party stands, and is never wrong; in truth it is far away.
    own.learn("liar", 400, { ...own.coordinate, heightMs: 0, error: 0 });
    landmarks.forEach((landmark, i) => own.learn(`p${i}`, distanceMs(here, landmark), landmark));
  }
  for (const landmark of landmarks) {
    const [told, real] = [distanceMs(own.coordinate, landmark), distanceMs(here, landmark)];
    assert.ok(Math.abs(told - real) < 0.1 * real, `${told} for ${real}`);
  }
  const { contradictions, measurements } = own.recordOf("liar");
  assert.ok(contradictions > 0.8 * measurements, `${contradictions} of ${measurements}`);
});

test("where most contradict it is the own coordinate that is wrong: it moves", () => {
  const own = settled();
  const there = at(900, 700);
  for (let round = 0; round < 2_000; round++) {
    landmarks.forEach((landmark, i) => own.learn(`p${i}`, distanceMs(there, landmark), landmark));
  }
  for (const landmark of landmarks) {
    const [told, real] = [distanceMs(own.coordinate, landmark), distanceMs(there, landmark)];
    assert.ok(Math.abs(told - real) < 0.1 * real, `${told} for ${real}`);
  }
});

test("one late packet moves nothing", () => {
  const own = settled();
  const before = own.coordinate;
  own.learn("p1", 4_000, landmarks[1]!);
  assert.ok(Math.hypot(...own.coordinate.positionMs.map((x, i) => x - before.positionMs[i]!)) < 1);
  own.learn("p1", Number.NaN, landmarks[1]!);
  own.learn("p1", -1, landmarks[1]!);
  assert.ok(own.coordinate.positionMs.every(Number.isFinite));
});
