/** Where two commitments to the same tokens part: what a dispute begins with. */
import { equalBytes } from "./commitment.ts";

/** Commitments of a sequence that are known of each position. */
export interface KnownRows {
  readonly rows: readonly Uint8Array[];
  /** Leaves of the rows' trees; without them only the position can be told. */
  readonly leaves?: readonly (readonly Uint8Array[])[];
}

/** A leaf of a row's tree: a layer (0: the embedding), or the token behind them. */
export type RowPart = number | "token";

export interface FirstDifference {
  /** The first position that differs, or that only one side has. */
  readonly position: number;
  /** The first part of it that differs; null: leaves are not known, or one side ends before this position. */
  readonly part: RowPart | null;
}

/** Null: no difference. Every position after the first difference differs, too, for it reads what went before. */
export function findFirstDifference(a: KnownRows, b: KnownRows): FirstDifference | null {
  const length = Math.max(a.rows.length, b.rows.length);
  for (let position = 0; position < length; position++) {
    const [own, other] = [a.rows[position], b.rows[position]];
    if (own === undefined || other === undefined) return { position, part: null };
    if (equalBytes(own, other)) continue;
    const [leaves, others] = [a.leaves?.[position], b.leaves?.[position]];
    const isKnown = leaves !== undefined && others !== undefined;
    return { position, part: isKnown ? differingPart(leaves, others) : null };
  }
  return null;
}

/** The first of two rows' leaves that differs or is missing in one; null where none is. */
export function differingPart(a: readonly Uint8Array[], b: readonly Uint8Array[]): RowPart | null {
  const index = a.findIndex((leaf, i) => b[i] === undefined || !equalBytes(leaf, b[i]));
  if (index === -1) return a.length === b.length ? null : a.length;
  return index === a.length - 1 ? "token" : index;
}
