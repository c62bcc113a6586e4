/** Which operations these are. They may change until a release freezes them; models converted before then must be converted again. */
import { fromHex } from "../../util/bytes.ts";

export const opsVersion = 0;

/** SHA-256 of vectors/operations.json, which pins what every operation and table gives. Written by scripts/exact-vectors.ts. */
export const opsHash: Uint8Array = fromHex(
  "be7d85e08acf1edc2e9ed18e29b47077288f93f50160037522ca1b282193e48c",
);
