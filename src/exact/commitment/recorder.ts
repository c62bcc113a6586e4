/** Collects the commitments of one sequence while an executor runs. */
import type { LayerListener } from "../executor.ts";
import { chainHead, equalBytes, hashBytes, merkleRoot, rowRoot, type Sha256 } from "./commitment.ts";

export class CommitmentRecorder {
  readonly #sha256: Sha256;
  readonly #rows: Uint8Array[] = [];
  readonly #leaves: Uint8Array[][] = [];
  #chain: Uint8Array = new Uint8Array(hashBytes);
  /** Leaves of rows that still lack their logits. */
  #open: Uint8Array[][] = [];

  constructor(sha256: Sha256, options: { readonly keepsLeaves: boolean } = { keepsLeaves: false }) {
    this.#sha256 = sha256;
    this.keepsLeaves = options.keepsLeaves;
  }

  /** Whether each row's leaves are kept, to prove single ones later. */
  readonly keepsLeaves: boolean;

  /** Give this to `Executor.step`; `rowOf` maps its rows to those of this sequence, from 0, or −1 for others. */
  listener(rowOf: (row: number) => number = (row) => row): LayerListener {
    this.#open = [];
    return (row, _layer, bytes) => {
      const own = rowOf(row);
      if (own >= 0) (this.#open[own] ??= []).push(this.#sha256(bytes));
    };
  }

  /** Closes the rows of a step, in order: their tokens, and the logits behind each (null where none were wanted). */
  close(tokens: readonly number[], logits: readonly (Int32Array | null)[]): void {
    for (const [i, token] of tokens.entries()) {
      const leaves = this.#open[i]!;
      const row = rowRoot(this.#sha256, token, leaves, logits[i]!);
      this.#rows.push(row);
      if (this.keepsLeaves) this.#leaves.push(leaves);
      this.#chain = chainHead(this.#sha256, this.#chain, token, row);
    }
    this.#open = [];
  }

  get rows(): readonly Uint8Array[] {
    return this.#rows;
  }

  get leaves(): readonly (readonly Uint8Array[])[] {
    return this.#leaves;
  }

  get chain(): Uint8Array {
    return this.#chain;
  }

  execRoot(): Uint8Array {
    return merkleRoot(this.#sha256, this.#rows);
  }

  /** First position whose row differs, or −1. */
  firstDifference(rows: readonly Uint8Array[]): number {
    return this.#rows.findIndex((row, i) => rows[i] === undefined || !equalBytes(row, rows[i]));
  }
}
