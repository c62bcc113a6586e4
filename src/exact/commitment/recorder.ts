/** Collects the commitments of one sequence while an executor runs. */
import type { LayerListener } from "../executor.ts";
import { LeafHashes } from "./leaf-hashes.ts";
import { chainHead, hashBytes, merkleRoot, type Sha256, tokenLeaf } from "./commitment.ts";

/** What one position commits to. */
export interface ClosedRow {
  /** Leaves of the row's tree: layers 0 (the embedding) …, then the token. */
  readonly leaves: readonly Uint8Array[];
  readonly row: Uint8Array;
  /** Head of the chain after it. */
  readonly chain: Uint8Array;
}

export class CommitmentRecorder {
  readonly #sha256: Sha256;
  readonly #rows: Uint8Array[] = [];
  readonly #leaves: (readonly Uint8Array[])[] = [];
  readonly #keepsLeaves: boolean;
  #chain: Uint8Array = new Uint8Array(hashBytes);
  /** Of a step's rows, and how many of these are closed. */
  readonly #open: LeafHashes;
  #closed = 0;

  /** @param options whether each row's leaves are kept, to prove single ones later */
  constructor(sha256: Sha256, options: { readonly keepsLeaves: boolean } = { keepsLeaves: false }) {
    this.#sha256 = sha256;
    this.#keepsLeaves = options.keepsLeaves;
    this.#open = new LeafHashes(sha256);
  }

  /** Give this to `Executor.step`; `rowOf` maps its rows to those of this sequence, from 0, or −1 for others. */
  listener(rowOf: (row: number) => number = (row) => row): LayerListener {
    this.#open.clear();
    this.#closed = 0;
    return (row, _layer, bytes) => {
      const own = rowOf(row);
      if (own >= 0) this.#open.add(own, bytes);
    };
  }

  /** Closes the rows of a step, in the order of their tokens. */
  close(tokens: readonly number[]): void {
    for (const token of tokens) this.closeNext(token);
  }

  /** Closes the next row of a step alone. */
  closeNext(token: number): ClosedRow {
    const leaves = [...this.#open.of(this.#closed++), tokenLeaf(this.#sha256, token)];
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
