import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { concatBytes } from "../../util/bytes.ts";
import { merkleRoot } from "../commitment/commitment.ts";
import { weightChunkBytes } from "../commitment/tags.ts";
import { weightRoot } from "./weight-root.ts";

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

test("the root is that of the bytes in chunks, however they come in parts", () => {
  const sizes = fc.array(fc.oneof(fc.constantFrom(0, 511, 512, 513, 1_024), fc.nat(2_000)), { maxLength: 6 });
  fc.assert(
    fc.property(sizes, (lengths) => {
      const parts = lengths.map((length, i) => new Uint8Array(length).map((_, j) => i * 31 + j));
      const whole = concatBytes(parts);
      const chunks = Array.from({ length: Math.ceil(whole.length / weightChunkBytes) }, (_, i) =>
        sha256(Uint8Array.of(0x10), whole.subarray(i * weightChunkBytes, (i + 1) * weightChunkBytes)),
      );
      assert.deepEqual(weightRoot(sha256, parts), merkleRoot(sha256, chunks));
    }),
    { numRuns: 300 },
  );
});
