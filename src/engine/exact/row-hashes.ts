/** Row hashes for receipts (docs/EXACT.md, "Commitments"), made while the batch is computed. */
import { merkleRoot, tokenLeaf } from "../../exact/commitment/commitment.ts";
import type { LayerListener } from "../../exact/executor.ts";
import { concatBytes } from "../../util/bytes.ts";
import { sha256 } from "../sha256.ts";
import type { Sequence } from "./sequence.ts";

/** Of one request: its slot's rows, which it makes longer, and how many of them were told. */
export class RowHashes {
  readonly #rows: Uint8Array[];
  #told = 0;

  /** @param rows of the positions that need not be read again */
  constructor(rows: Uint8Array[]) {
    this.#rows = rows;
  }

  /** The next position was read. */
  add(token: number, layerLeaves: readonly Uint8Array[]): void {
    this.#rows.push(merkleRoot(sha256, [...layerLeaves, tokenLeaf(sha256, token)]));
  }

  /** All since the last call, one behind the other; undefined: none. */
  take(): Uint8Array | undefined {
    if (this.#told === this.#rows.length) return undefined;
    const rows = concatBytes(this.#rows.slice(this.#told));
    this.#told = this.#rows.length;
    return rows;
  }
}

interface StepHashes {
  readonly listener: LayerListener;
  close(): void;
}

/** Listens to one step; null where nobody in it wants a receipt. */
export function stepHashes(
  shares: readonly { readonly sequence: Sequence; readonly count: number }[],
): StepHashes | null {
  if (shares.every(({ sequence }) => sequence.rowHashes === null)) return null;
  const owners = shares.flatMap(({ sequence: { rowHashes, tokens, slot }, count }) =>
    Array.from({ length: count }, (_, i) => ({ rowHashes, token: tokens[slot.cells.length + i]! })),
  );
  const leaves: Uint8Array[][] = owners.map(() => []);
  return {
    listener(row, _layer, bytes) {
      if (owners[row]!.rowHashes !== null) leaves[row]!.push(sha256(bytes));
    },
    close() {
      for (const [row, { rowHashes, token }] of owners.entries()) rowHashes?.add(token, leaves[row]!);
    },
  };
}
