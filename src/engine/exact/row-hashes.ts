/** Row hashes for receipts (docs/EXACT.md, "Commitments"), made while the batch is computed. */
import { rowRoot } from "../../exact/commitment/commitment.ts";
import type { LayerListener } from "../../exact/executor.ts";
import { concatBytes } from "../../util/bytes.ts";
import { sha256 } from "../sha256.ts";
import type { Sequence } from "./sequence.ts";

/** Of one request: what was read and is not told yet. */
export class RowHashes {
  /** The slot's: without logits, so that another prompt may begin with them. */
  readonly #kept: Uint8Array[];
  readonly #promptLength: number;
  #pending: Uint8Array[];

  /** @param kept rows of the positions that need not be read again */
  constructor(kept: Uint8Array[], promptLength: number) {
    this.#kept = kept;
    this.#promptLength = promptLength;
    this.#pending = [...kept];
  }

  /** The next position was read. */
  add(token: number, leaves: readonly Uint8Array[], logits: Int32Array | null): void {
    const position = this.#kept.length;
    const bare = rowRoot(sha256, token, leaves, null);
    this.#kept.push(bare);
    this.#pending.push(position < this.#promptLength - 1 ? bare : rowRoot(sha256, token, leaves, logits));
  }

  /** All since the last call, one behind the other; undefined: none. */
  take(): Uint8Array | undefined {
    if (this.#pending.length === 0) return undefined;
    const rows = concatBytes(this.#pending);
    this.#pending = [];
    return rows;
  }
}

interface StepHashes {
  readonly listener: LayerListener;
  close(outputs: readonly (Int32Array | null)[]): void;
}

/** Listens to one step; null where nobody in it wants a receipt. */
export function stepHashes(
  shares: readonly { readonly sequence: Sequence; readonly count: number }[],
): StepHashes | null {
  if (shares.every(({ sequence }) => sequence.rowHashes === null)) return null;
  const owners = shares.flatMap(({ sequence, count }) =>
    Array.from({ length: count }, (_, i) => ({ sequence, at: sequence.slot.cells.length + i })),
  );
  const leaves: Uint8Array[][] = owners.map(() => []);
  return {
    listener(row, _layer, bytes) {
      if (owners[row]!.sequence.rowHashes !== null) leaves[row]!.push(sha256(bytes));
    },
    close(outputs) {
      for (const [row, { sequence, at }] of owners.entries()) {
        sequence.rowHashes?.add(sequence.tokens[at]!, leaves[row]!, outputs[row]!);
      }
    },
  };
}
