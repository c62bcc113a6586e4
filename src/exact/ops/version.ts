/** Which operations these are. They may change until a release freezes them; models converted before then must be converted again. */
import { fromHex } from "../../util/bytes.ts";

export const opsVersion = 0;

/** SHA-256 of vectors/operations.json, which pins what every operation and table gives. Written by scripts/exact-vectors.ts. */
export const opsHash: Uint8Array = fromHex(
  "051f3c40ed2ab5ae7dd4ecd53ad85ae2c815157ce48e09dafb48be280ac1871f",
);
