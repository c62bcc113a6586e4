import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { portableSha256 } from "./portable-sha256.ts";

test("the portable SHA-256 is Node's, however the bytes come in parts", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }), (parts) => {
      const expected = createHash("sha256");
      for (const part of parts) expected.update(part);
      assert.deepEqual(portableSha256(...parts), new Uint8Array(expected.digest()));
    }),
  );
});
