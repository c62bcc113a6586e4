/** Residual vectors behind the last layer, of some rows of one step. */
import type { Executor, LayerListener } from "../../exact/executor.ts";

export class Residuals {
  readonly #shape: Executor["shape"];
  readonly #wanted: ReadonlySet<number>;
  readonly #found = new Map<number, Int32Array>();

  constructor({ shape }: Pick<Executor, "shape">, wanted: readonly number[]) {
    this.#shape = shape;
    this.#wanted = new Set(wanted);
  }

  /** Listens to the step, beside somebody else who may; undefined when nobody does. */
  beside(other: LayerListener | undefined): LayerListener | undefined {
    if (this.#wanted.size === 0) return other;
    return (row, layer, bytes) => {
      other?.(row, layer, bytes);
      if (layer === this.#shape.layers && this.#wanted.has(row))
        this.#found.set(row, this.#residualIn(bytes));
    };
  }

  of(row: number): Int32Array | undefined {
    return this.#found.get(row);
  }

  /** A leaf's bytes begin with a tag, then the residual vector (`layerLeafBytes`). */
  #residualIn(bytes: Uint8Array): Int32Array {
    const view = new DataView(bytes.buffer, bytes.byteOffset + 1, 4 * this.#shape.dim);
    return Int32Array.from({ length: this.#shape.dim }, (_, i) => view.getInt32(4 * i, true));
  }
}
