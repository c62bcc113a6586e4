/** A matrix in memory. */

/** Rows computed together: they share the loads of activations. */
export const tileRows: usize = 4;

/**
 * The parts of a matrix in memory, see `Matrix` in model/model.ts; `bias` may be 0. Weights lie in tiles of four rows,
 * in each of which 16 columns of one row are followed by the same columns of the next: reading them in order is what memory does best. Rows
 * beyond the matrix are zero.
 */
@unmanaged
export class MatrixRef {
  weights: usize;
  multipliers: usize;
  exponents: usize;
  bias: usize;
  rows: usize;
  columns: usize;
  /** Of groups, those of four rows side by side; see grouped.ts. */
  scales: usize;
}
