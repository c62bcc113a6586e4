/** Keys and values of sequences in the kernels' memory. */
import type { Sequence } from "../executor.ts";
import type { ExactShape } from "../model/model.ts";
import type { KernelMemory } from "./kernels.ts";

/** Where one layer keeps what it remembers: each address is that of head 0, followed by the others. */
export interface LayerCache {
  readonly keys: number;
  readonly values: number;
  readonly keyExponents: number;
  readonly valueExponents: number;
}

export class WasmSequence implements Sequence {
  length = 0;
  #free: ((layers: readonly LayerCache[]) => void) | null;
  readonly layers: readonly LayerCache[];

  constructor(layers: readonly LayerCache[], free: (layers: readonly LayerCache[]) => void) {
    this.layers = layers;
    this.#free = free;
  }

  truncate(length: number): void {
    this.length = Math.min(this.length, length);
  }

  free(): void {
    this.#free?.(this.layers);
    this.#free = null;
    this.length = 0;
  }
}

export class SequencePool {
  readonly #memory: KernelMemory;
  readonly #shape: ExactShape;
  readonly #layers: number;
  /** Positions of a sequence, an even number: values are kept in pairs of positions. */
  readonly capacity: number;
  readonly #unused: (readonly LayerCache[])[] = [];

  constructor(memory: KernelMemory, shape: ExactShape, layers: number, contextTokensMax: number) {
    this.#memory = memory;
    this.#shape = shape;
    this.#layers = layers;
    this.capacity = 2 * Math.ceil(contextTokensMax / 2);
  }

  /** @throws SkeinError `overloaded` when there is no memory */
  take(): WasmSequence {
    const layers = this.#unused.pop() ?? this.#allocate();
    return new WasmSequence(layers, (freed) => this.#unused.push(freed));
  }

  #allocate(): LayerCache[] {
    const { headsKv, headDim } = this.#shape;
    const mantissaBytes = 2 * headsKv * headDim * this.capacity;
    const exponentBytes = headsKv * this.capacity;
    // All at once, so that a failure leaves nothing half allocated.
    const start = this.#memory.allocate(2 * this.#layers * (mantissaBytes + exponentBytes));
    return Array.from({ length: this.#layers }, (_, layer) => {
      const keys = start + layer * 2 * mantissaBytes;
      const exponents = start + this.#layers * 2 * mantissaBytes + layer * 2 * exponentBytes;
      return {
        keys,
        values: keys + mantissaBytes,
        keyExponents: exponents,
        valueExponents: exponents + exponentBytes,
      };
    });
  }
}
