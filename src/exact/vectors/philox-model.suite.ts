/** Models of any shape from nothing but integers: vectors/README.md says how. */
import type { TensorRef } from "../../formats/model-source.ts";
import type { ExactShape, NormWeights, RowMatrix } from "../model/model.ts";
import { isNorm, type ModelSink, tensorsOf } from "../model/sink.ts";
import { tensorExtent } from "../model/weight-bytes.ts";
import { philox } from "../ops/philox.ts";

export interface PhiloxModel {
  readonly shape: ExactShape;
  readonly seed: number;
  /** About which exponent a matrix's rows have, by its kind. */
  readonly exponents: Readonly<Record<string, number>>;
}

/** Which numbers of a tensor a draw is for. */
const parts = { weights: 0, multipliers: 1, exponents: 2, bias: 3, mantissas: 4 };

export async function makePhiloxModel(
  { shape, seed, exponents }: PhiloxModel,
  sink: ModelSink,
): Promise<void> {
  for (const [number, tensor] of tensorsOf(shape).entries()) {
    const { rows, columns, hasBias } = tensorExtent(shape, "int8-row", tensor.kind);
    const draws = (part: keyof typeof parts, count: number): Uint32Array =>
      drawMany(seed, number, parts[part], count);
    if (isNorm(tensor.kind)) await sink.norm(tensor, normOf(draws("mantissas", columns)));
    else {
      const matrix: RowMatrix = {
        format: "int8-row",
        rows,
        columns,
        weights: Int8Array.from(draws("weights", rows * columns), (draw) => (draw % 255) - 127),
        multipliers: Int16Array.from(draws("multipliers", rows), (draw) => 2 ** 14 + (draw % 2 ** 14)),
        exponents: Int8Array.from(
          draws("exponents", rows),
          (draw) => baseOf(exponents, tensor) + (draw % 3) - 1,
        ),
        bias: hasBias ? Int32Array.from(draws("bias", rows), (draw) => (draw % 131_071) - 65_535) : null,
      };
      await sink.matrix(tensor, matrix);
    }
  }
}

function baseOf(exponents: PhiloxModel["exponents"], { kind }: TensorRef): number {
  const base = exponents[kind];
  if (base === undefined) throw new RangeError(`no exponent for ${kind}`);
  return base;
}

function normOf(draws: Uint32Array): NormWeights {
  return { mantissas: Int32Array.from(draws, (draw) => 2 ** 20 + (draw % (7 * 2 ** 20))), exponent: -22 };
}

function drawMany(seed: number, tensor: number, part: number, count: number): Uint32Array {
  const draws = new Uint32Array(count);
  for (let block = 0; 4 * block < count; block++) {
    const four = philox([block, tensor, part, 0], [seed, 0]);
    draws.set(four.slice(0, Math.min(4, count - 4 * block)), 4 * block);
  }
  return draws;
}

/** Beginnings of sequences: token i is the first number of a block. */
export function philoxTokens({ shape, seed }: PhiloxModel, count: number): number[] {
  return Array.from({ length: count }, (_, i) => philox([i, 0, 5, 0], [seed, 0])[0] % shape.vocabularySize);
}
