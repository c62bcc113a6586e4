import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { seededRandom } from "../util/random.ts";
import { OfferIndex, shortlistMax, type Standing } from "./offer-index.ts";

interface Offer {
  readonly name: string;
  readonly modelId: string;
  readonly standing: Standing;
  readonly scoreMs: number;
}

const anyOffer: fc.Arbitrary<Offer> = fc.record({
  name: fc.constantFrom("a", "b"),
  modelId: fc.constantFrom("x:1", "x:2", "y:12"),
  standing: fc.constantFrom<Standing>("available", "cooling", "away"),
  scoreMs: fc.double({ min: -100, max: 1e7, noNaN: true }),
});
const anySteps = fc.array(fc.record({ key: fc.nat(9).map(String), offer: fc.option(anyOffer) }), {
  maxLength: 60,
});

test("like a plain table, after whatever happened to it", () => {
  fc.assert(
    fc.property(anySteps, (steps) => {
      const index = new OfferIndex<string>();
      const table = new Map<string, Offer>();
      for (const { key, offer } of steps) {
        if (offer === null) {
          index.delete(key);
          table.delete(key);
        } else {
          index.set(key, key, offer, offer.standing, offer.scoreMs);
          table.set(key, offer);
        }
      }
      const offers = [...table];
      assert.equal(index.size, table.size);
      for (const name of ["a", "b"]) {
        const ids = new Set(offers.filter(([, offer]) => offer.name === name).map(([, o]) => o.modelId));
        assert.deepEqual([...index.identitiesOf(name)].toSorted(), [...ids].toSorted());
        const available = (id: string): number =>
          offers.filter(([, o]) => o.modelId === id && o.standing === "available").length;
        const [best = null] = [...ids].toSorted((p, q) => available(q) - available(p) || (p < q ? -1 : 1));
        assert.equal(index.identityOf(name), best);
      }
      for (const id of ["x:1", "x:2", "y:12"]) {
        const serving = offers.filter(([, o]) => o.modelId === id && o.standing !== "away");
        assert.equal(index.servingCount([id]), serving.length);
        assert.deepEqual(
          index.shortlist([id], seededRandom(1), () => true).toSorted(),
          serving.map(([key]) => key).toSorted(),
        );
      }
    }),
  );
});

test("of many, the shortlist holds the best; among equals, chance decides; exclusion finds the last one", () => {
  const index = new OfferIndex<number>();
  for (let i = 0; i < 5_000; i++) {
    const standing = i % 7 === 0 ? "cooling" : "available";
    index.set(String(i), i, { name: "m", modelId: "m:1" }, standing, i % 50 === 1 ? 10 : 500 + i);
  }
  const seen = new Set<number>();
  for (let seed = 0; seed < 100; seed++) {
    const found = index.shortlist(["m:1"], seededRandom(seed), () => true);
    assert.equal(found.length, shortlistMax);
    assert.ok(found.every((i) => i % 7 !== 0));
    const best = found.filter((i) => i % 50 === 1);
    assert.ok(best.length >= shortlistMax - 1, "all but the stranger");
    for (const i of best) seen.add(i);
  }
  assert.ok(seen.size > 70, `${seen.size} of 86`);
  assert.deepEqual(
    index.shortlist(["m:1"], seededRandom(1), (i) => i === 4_900),
    [4_900],
  );
  assert.deepEqual(
    index.shortlist(["m:2"], seededRandom(1), () => true),
    [],
  );
});

test("names: an alias, an identity, an alias with the beginning of its hash", () => {
  const index = new OfferIndex<string>();
  index.set("1", "1", { name: "m", modelId: "gguf-sha256:abcd" }, "available", 1);
  index.set("2", "2", { name: "m", modelId: "gguf-sha256:abff" }, "away", 1);
  assert.deepEqual(index.identitiesOf("gguf-sha256:abff"), ["gguf-sha256:abff"]);
  assert.deepEqual(index.identitiesOf("m@abc"), ["gguf-sha256:abcd"]);
  assert.equal(index.identitiesOf("m@ab").length, 2);
  for (const wrong of ["m@", "m@x", "n", "", "@abcd"]) assert.deepEqual(index.identitiesOf(wrong), []);
  assert.equal(index.identityOf("m"), "gguf-sha256:abcd");
});
