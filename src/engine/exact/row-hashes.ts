/** Row hashes for receipts (docs/EXACT.md, "Commitments"), made while the batch is computed. */
import { merkleRoot, tokenLeaf } from "../../exact/commitment/commitment.ts";
import { LeafHashes } from "../../exact/commitment/leaf-hashes.ts";
import type { LayerListener } from "../../exact/executor.ts";
import { concatBytes } from "../../util/bytes.ts";
import { sha256 } from "../sha256.ts";

/** What one request wants to be told. Its rows are with its context, which it may lose and get again. */
export class RowHashes {
  /** Position whose leaves are told, too, and that is read for it; infinite where none is, or when it was read. */
  leavesAt: number;
  #leaves: Uint8Array | null = null;
  /** Positions whose rows were told. */
  #told = 0;

  /** @param leavesAt position whose leaves are told, too; null: of none */
  constructor(leavesAt: number | null) {
    this.leavesAt = leavesAt ?? Number.POSITIVE_INFINITY;
  }

  /** The next position was read: its row goes behind `rows`. */
  add(rows: Uint8Array[], token: number, layerLeaves: readonly Uint8Array[]): void {
    const leaves = [...layerLeaves, tokenLeaf(sha256, token)];
    if (rows.length === this.leavesAt) {
      this.#leaves = concatBytes(leaves);
      this.leavesAt = Number.POSITIVE_INFINITY;
    }
    rows.push(merkleRoot(sha256, leaves));
  }

  /** All of `rows` that were not told yet, one behind the other. */
  take(rows: readonly Uint8Array[]): { readonly rows: Uint8Array; readonly leaves?: Uint8Array } {
    // Positions that are read again after a preemption are told once.
    const more = concatBytes(rows.slice(this.#told));
    this.#told = rows.length;
    const leaves = this.#leaves;
    this.#leaves = null;
    return leaves === null ? { rows: more } : { rows: more, leaves };
  }
}

/** Listens to the steps of a batch. */
export class StepHashes {
  readonly #leaves = new LeafHashes(sha256);

  /** Of the next step, for the rows that want it; undefined where none does. */
  listener(wanted: readonly boolean[]): LayerListener | undefined {
    this.#leaves.clear();
    if (!wanted.includes(true)) return undefined;
    return (row, _layer, bytes) => {
      if (wanted[row] === true) this.#leaves.add(row, bytes);
    };
  }

  /** Leaves of a row of the last step, the first layer's first. */
  of(row: number): readonly Uint8Array[] {
    return this.#leaves.of(row);
  }
}
