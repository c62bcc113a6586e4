/** Row hashes for receipts (docs/EXACT.md, "Commitments"), made while the batch is computed. */
import { merkleRoot, tokenLeaf } from "../../exact/commitment/commitment.ts";
import { LeafHashes } from "../../exact/commitment/leaf-hashes.ts";
import type { LayerListener } from "../../exact/executor.ts";
import { concatBytes } from "../../util/bytes.ts";
import { sha256 } from "../sha256.ts";
import type { Sequence } from "./sequence.ts";

/** Of one request: its slot's rows, which it makes longer, and how many of them were told. */
export class RowHashes {
  readonly #rows: Uint8Array[];
  readonly #leavesAt: number | null;
  #leaves: Uint8Array | null = null;
  #told = 0;

  /**
   * @param rows of the positions that need not be read again
   * @param leavesAt position whose leaves are told, too; it is read again
   */
  constructor(rows: Uint8Array[], leavesAt: number | null) {
    this.#rows = rows;
    this.#leavesAt = leavesAt;
  }

  /** The next position was read. */
  add(token: number, layerLeaves: readonly Uint8Array[]): void {
    const leaves = [...layerLeaves, tokenLeaf(sha256, token)];
    if (this.#rows.length === this.#leavesAt) this.#leaves = concatBytes(leaves);
    this.#rows.push(merkleRoot(sha256, leaves));
  }

  /** All since the last call, one behind the other. */
  take(): { readonly rows?: Uint8Array; readonly leaves?: Uint8Array } {
    if (this.#told === this.#rows.length) return {};
    const rows = concatBytes(this.#rows.slice(this.#told));
    this.#told = this.#rows.length;
    const leaves = this.#leaves;
    this.#leaves = null;
    return leaves === null ? { rows } : { rows, leaves };
  }
}

/** Listens to the steps of a batch. */
export class StepHashes {
  readonly #leaves = new LeafHashes(sha256);

  /** Of the next step; undefined where nobody in it wants a receipt. */
  listener(owners: readonly RowOwner[]): LayerListener | undefined {
    if (owners.every(({ rowHashes }) => rowHashes === null)) return undefined;
    this.#leaves.clear();
    return (row, _layer, bytes) => {
      if (owners[row]!.rowHashes !== null) this.#leaves.add(row, bytes);
    };
  }

  /** The step is done. */
  close(owners: readonly RowOwner[]): void {
    for (const [row, { rowHashes, token }] of owners.entries()) rowHashes?.add(token, this.#leaves.of(row));
  }
}

/** A row of a step. */
export interface RowOwner {
  readonly rowHashes: RowHashes | null;
  readonly token: number;
}

export function ownersOf(
  shares: readonly { readonly sequence: Sequence; readonly count: number }[],
): RowOwner[] {
  return shares.flatMap(({ sequence: { rowHashes, tokens, slot }, count }) =>
    Array.from({ length: count }, (_, i) => ({ rowHashes, token: tokens[slot.cells.length + i]! })),
  );
}
