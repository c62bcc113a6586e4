import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SkeinError } from "../../util/errors.ts";
import { packResidual, unpackResidual } from "./hidden.ts";

const residuals = fc
  .tuple(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 0, max: 31 }))
  .chain(([dim, bits]) =>
    fc.array(fc.integer({ min: -(2 ** bits), max: 2 ** bits - 1 }), { minLength: dim, maxLength: dim }),
  )
  .map((values) => Int32Array.from(values));

test("what is packed is unpacked, in no more bytes than numbers need", () => {
  fc.assert(
    fc.property(residuals, (residual) => {
      const packed = packResidual(residual);
      assert.deepEqual(unpackResidual(packed, residual.length), residual);
      assert.ok(packed.length <= 4 * residual.length + Math.ceil(residual.length / 32));
    }),
    { numRuns: 1_000 },
  );
  assert.equal(packResidual(new Int32Array(64)).length, 2);
  for (const end of [-(2 ** 31), 2 ** 31 - 1, -1, 1]) {
    const residual = new Int32Array(33).fill(end);
    assert.deepEqual(unpackResidual(packResidual(residual), 33), residual);
  }
});

/** Either the one encoding of some vector, or refused. */
function assertCanonical(packed: Uint8Array, dim: number): void {
  let residual: Int32Array;
  try {
    residual = unpackResidual(packed, dim);
  } catch (error) {
    assert.ok(error instanceof SkeinError && error.code === "invalid_request", String(error));
    return;
  }
  assert.equal(residual.length, dim);
  assert.deepEqual(packResidual(residual), packed);
}

test("one vector has one encoding, and anything else is refused", () => {
  const changes = fc.record({
    residual: residuals,
    at: fc.nat(),
    byte: fc.nat(255),
    cut: fc.nat(6),
    more: fc.uint8Array({ maxLength: 3 }),
    off: fc.constantFrom(-32, -1, 0, 1, 31, 32),
  });
  fc.assert(
    fc.property(changes, ({ residual, at, byte, cut, more, off }) => {
      const packed = packResidual(residual);
      const dim = residual.length;
      assertCanonical(packed.with(at % packed.length, byte), dim);
      assertCanonical(packed.slice(0, Math.max(0, packed.length - cut)), dim);
      assertCanonical(Uint8Array.from([...packed, ...more]), dim);
      if (dim + off > 0) assertCanonical(packed, dim + off);
    }),
    { numRuns: 2_000 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), fc.integer({ min: 1, max: 64 }), assertCanonical), {
    numRuns: 2_000,
  });
});
