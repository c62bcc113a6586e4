/** Which operations these are. They may change until a release freezes them; models converted before then must be converted again. */

export const opsVersion = 0;

/** SHA-256 of vectors/operations.json, which pins what every operation and table gives. */
export const opsHash: Uint8Array = new Uint8Array(32);
