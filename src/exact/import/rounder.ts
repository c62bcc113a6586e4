/** Collects the rows of a matrix in the format it is to have. */
import { type GroupMatrix, groupColumns, type Matrix, type RowMatrix } from "../model/model.ts";
import { quantizeRow } from "./quantize.ts";
import { quantizeGroups } from "./quantize-groups.ts";

export type WithoutBias = Omit<RowMatrix, "bias"> | Omit<GroupMatrix, "bias">;

export interface Rounder {
  /** Rounds row `at`, which becomes what is left of it. */
  put(at: number, row: Float64Array): void;
  readonly matrix: WithoutBias;
}

export function createRounder(format: Matrix["format"], rows: number, columns: number): Rounder {
  const multipliers = new Int16Array(rows);
  const exponents = new Int8Array(rows);
  const common = { rows, columns, multipliers, exponents };
  if (format === "int8-row") {
    const weights = new Int8Array(rows * columns);
    return {
      matrix: { ...common, format, weights },
      put(at, row) {
        const into = weights.subarray(at * columns, (at + 1) * columns);
        const { multiplier, exponent } = quantizeRow(row, into);
        multipliers[at] = multiplier;
        exponents[at] = exponent;
        for (let i = 0; i < columns; i++) row[i] = into[i]! * multiplier * 2 ** exponent;
      },
    };
  }
  const weights = new Uint8Array((rows * columns) / 2);
  const scales = new Int8Array((rows * columns) / groupColumns);
  const part = <T extends Uint8Array | Int8Array>(of: T, at: number): T =>
    of.subarray((at * of.length) / rows, ((at + 1) * of.length) / rows) as T;
  return {
    matrix: { ...common, format, weights, scales },
    put(at, row) {
      const { multiplier, exponent } = quantizeGroups(row, part(weights, at), part(scales, at));
      multipliers[at] = multiplier;
      exponents[at] = exponent;
    },
  };
}
