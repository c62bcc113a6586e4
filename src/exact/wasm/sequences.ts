/** Keys and values of sequences in the kernels' memory. */
import type { Sequence } from "../executor.ts";
import type { ExactShape } from "../model/model.ts";
import { checkCount } from "../step-checks.ts";
import type { KernelMemory } from "./kernels.ts";

/** Where one layer keeps what it remembers: each address is that of head 0, followed by the others. */
export interface LayerCache {
  readonly keys: number;
  readonly values: number;
  readonly keyExponents: number;
  readonly valueExponents: number;
}

/** How the caches of all sequences are laid out. */
export interface CacheLayout {
  readonly layers: number;
  /** Positions of a sequence, an even number: values are kept in pairs of positions. */
  readonly capacity: number;
  readonly mantissaBytes: number;
  readonly exponentBytes: number;
}

export function cacheLayout(shape: ExactShape, layers: number, contextTokensMax: number): CacheLayout {
  const capacity = 2 * Math.ceil(contextTokensMax / 2);
  return {
    layers,
    capacity,
    mantissaBytes: 2 * shape.headsKv * shape.headDim * capacity,
    exponentBytes: shape.headsKv * capacity,
  };
}

/** Addresses of one layer (counted from the range's first) in the cache that begins at `start`. */
export function layerCache(layout: CacheLayout, start: number, layer: number): LayerCache {
  const keys = start + layer * 2 * layout.mantissaBytes;
  const exponents = start + layout.layers * 2 * layout.mantissaBytes + layer * 2 * layout.exponentBytes;
  return {
    keys,
    values: keys + layout.mantissaBytes,
    keyExponents: exponents,
    valueExponents: exponents + layout.exponentBytes,
  };
}

export class WasmSequence implements Sequence {
  length = 0;
  #free: ((start: number) => void) | null;
  /** Where its cache begins. */
  readonly start: number;

  readonly owner: object;

  constructor(start: number, owner: object, free: (start: number) => void) {
    this.start = start;
    this.owner = owner;
    this.#free = free;
  }

  get isFree(): boolean {
    return this.#free === null;
  }

  truncate(length: number): void {
    checkCount("The length of a sequence", length, 0);
    this.length = Math.min(this.length, length);
  }

  free(): void {
    this.#free?.(this.start);
    this.#free = null;
    this.length = 0;
  }
}

export class SequencePool {
  readonly #memory: KernelMemory;
  readonly #layout: CacheLayout;
  readonly #unused: number[] = [];

  constructor(memory: KernelMemory, layout: CacheLayout) {
    this.#memory = memory;
    this.#layout = layout;
  }

  /** @throws SkeinError `overloaded` when there is no memory */
  take(owner: object): WasmSequence {
    const { layers, mantissaBytes, exponentBytes } = this.#layout;
    // All layers at once, so that a failure leaves nothing half allocated.
    const start = this.#unused.pop() ?? this.#memory.allocate(2 * layers * (mantissaBytes + exponentBytes));
    return new WasmSequence(start, owner, (freed) => this.#unused.push(freed));
  }
}
