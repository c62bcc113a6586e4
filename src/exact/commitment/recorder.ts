/** Collects the commitments of one sequence while an executor runs. */
import type { LayerListener } from "../executor.ts";
import { chainHead, hashBytes, merkleRoot, type Sha256, tokenLeaf } from "./commitment.ts";

/** What one position commits to. */
export interface ClosedRow {
  /** Leaves of the row's tree: layers 0 (the embedding) …, then the token. */
  readonly leaves: readonly Uint8Array[];
  readonly row: Uint8Array;
  /** Head of the chain after it. */
  readonly chain: Uint8Array;
}

/**
 * What layers made is copied and hashed later, all of it together: hashing between the kernels takes twice the time, for
 * each finds the other's code and data out of the processor's caches.
 */
const heldBytesMax: number = 256 * 1024;

export class CommitmentRecorder {
  readonly #sha256: Sha256;
  readonly #rows: Uint8Array[] = [];
  readonly #leaves: (readonly Uint8Array[])[] = [];
  readonly #keepsLeaves: boolean;
  #chain: Uint8Array = new Uint8Array(hashBytes);
  /** Leaves of a step's rows that are not closed yet. */
  #open: Uint8Array[][] = [];
  #held: Uint8Array | null = null;
  /** Whose bytes are held, and where they end. */
  #heldParts: { readonly row: number; readonly end: number }[] = [];

  /** @param options whether each row's leaves are kept, to prove single ones later */
  constructor(sha256: Sha256, options: { readonly keepsLeaves: boolean } = { keepsLeaves: false }) {
    this.#sha256 = sha256;
    this.#keepsLeaves = options.keepsLeaves;
  }

  /** Give this to `Executor.step`; `rowOf` maps its rows to those of this sequence, from 0, or −1 for others. */
  listener(rowOf: (row: number) => number = (row) => row): LayerListener {
    this.#open = [];
    this.#heldParts = [];
    return (row, _layer, bytes) => {
      const own = rowOf(row);
      if (own >= 0) this.#hold(own, bytes);
    };
  }

  #hold(row: number, bytes: Uint8Array): void {
    const start = this.#heldParts.at(-1)?.end ?? 0;
    if (start > 0 && start + bytes.length > heldBytesMax) {
      this.#hashHeld();
      this.#hold(row, bytes);
    } else if (bytes.length > heldBytesMax) {
      this.#add(row, bytes);
    } else {
      this.#held ??= new Uint8Array(heldBytesMax);
      this.#held.set(bytes, start);
      this.#heldParts.push({ row, end: start + bytes.length });
    }
  }

  #hashHeld(): void {
    let start = 0;
    for (const { row, end } of this.#heldParts) {
      this.#add(row, this.#held!.subarray(start, end));
      start = end;
    }
    this.#heldParts = [];
  }

  #add(row: number, bytes: Uint8Array): void {
    (this.#open[row] ??= []).push(this.#sha256(bytes));
  }

  /** Closes the rows of a step, in the order of their tokens. */
  close(tokens: readonly number[]): void {
    for (const token of tokens) this.closeNext(token);
  }

  /** Closes the next row of a step alone. */
  closeNext(token: number): ClosedRow {
    this.#hashHeld();
    const leaves = [...this.#open.shift()!, tokenLeaf(this.#sha256, token)];
    const row = merkleRoot(this.#sha256, leaves);
    this.#rows.push(row);
    if (this.#keepsLeaves) this.#leaves.push(leaves);
    this.#chain = chainHead(this.#sha256, this.#chain, token, row);
    return { leaves, row, chain: this.#chain };
  }

  get rows(): readonly Uint8Array[] {
    return this.#rows;
  }

  /** Leaves of each row's tree; empty unless they are kept. */
  get leaves(): readonly (readonly Uint8Array[])[] {
    return this.#leaves;
  }

  get chain(): Uint8Array {
    return this.#chain;
  }

  execRoot(): Uint8Array {
    return merkleRoot(this.#sha256, this.#rows);
  }
}
