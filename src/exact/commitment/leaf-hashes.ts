/** Hashes of what layers make of the rows of a step: from the executor's listener to the leaves of each row. */
import type { Sha256 } from "./commitment.ts";

/**
 * What layers made is copied and hashed later, all of it together: hashing between the kernels takes twice the time, for
 * each finds the other's code and data out of the processor's caches.
 */
const heldBytesMax: number = 256 * 1024;

export class LeafHashes {
  readonly #sha256: Sha256;
  /** Leaves of the step's rows. */
  #rows: Uint8Array[][] = [];
  #held: Uint8Array | null = null;
  /** Whose bytes are held, and where they end. */
  #heldParts: { readonly row: number; readonly end: number }[] = [];

  constructor(sha256: Sha256) {
    this.#sha256 = sha256;
  }

  /** Another step begins. */
  clear(): void {
    this.#rows = [];
    this.#heldParts = [];
  }

  /** The next layer's bytes of a row, which are only valid during the call. */
  add(row: number, bytes: Uint8Array): void {
    const start = this.#heldParts.at(-1)?.end ?? 0;
    if (start > 0 && start + bytes.length > heldBytesMax) {
      this.#hashHeld();
      this.add(row, bytes);
    } else if (bytes.length > heldBytesMax) {
      this.#hash(row, bytes);
    } else {
      this.#held ??= new Uint8Array(heldBytesMax);
      this.#held.set(bytes, start);
      this.#heldParts.push({ row, end: start + bytes.length });
    }
  }

  /** Leaves of a row, the first layer's first. */
  of(row: number): readonly Uint8Array[] {
    this.#hashHeld();
    return this.#rows[row] ?? [];
  }

  #hashHeld(): void {
    let start = 0;
    for (const { row, end } of this.#heldParts) {
      this.#hash(row, this.#held!.subarray(start, end));
      start = end;
    }
    this.#heldParts = [];
  }

  #hash(row: number, bytes: Uint8Array): void {
    (this.#rows[row] ??= []).push(this.#sha256(bytes));
  }
}
