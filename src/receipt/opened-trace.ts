/** What a provider gives out of an earlier answer, held against what it signed: only then does it prove anything. */
import { equalBytes, hashBytes, merkleRoot, type Sha256 } from "../exact/commitment/commitment.ts";
import type { KnownRows } from "../exact/commitment/difference.ts";
import type { Traced } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import type { Execution } from "./receipt.ts";

/**
 * Rows, and leaves of the one at `position` (null: of none).
 * @throws SkeinError `protocol_violation` when they are not those that were signed: as good as giving none
 */
export function openTrace(
  sha256: Sha256,
  { positions, root }: Execution,
  traced: Traced,
  position: number | null,
): KnownRows {
  const rows = hashesIn(traced.rows);
  if (rows.length !== positions || !equalBytes(merkleRoot(sha256, rows), root)) {
    throw new SkeinError("protocol_violation", "The provider's rows are not those that it signed.");
  }
  if (position === null) return { rows };
  const own = traced.leaves === null ? [] : hashesIn(traced.leaves);
  const row = rows[position];
  if (row === undefined || own.length === 0 || !equalBytes(merkleRoot(sha256, own), row)) {
    throw new SkeinError("protocol_violation", "The provider's leaves are not those of its row.");
  }
  const leaves: Uint8Array[][] = [];
  leaves[position] = own;
  return { rows, leaves };
}

function hashesIn(bytes: Uint8Array): Uint8Array[] {
  if (bytes.length % hashBytes !== 0) {
    throw new SkeinError("protocol_violation", `${bytes.length} bytes are no hashes of ${hashBytes}.`);
  }
  return Array.from({ length: bytes.length / hashBytes }, (_, i) =>
    bytes.subarray(i * hashBytes, (i + 1) * hashBytes),
  );
}
