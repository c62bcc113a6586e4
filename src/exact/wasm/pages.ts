/**
 * Keys and values of all sequences, in pages of `pagePositions` positions that sequences share where they begin alike.
 * A page holds what all layers of the range keep of its positions.
 */
import { SkeinError } from "../../util/errors.ts";
import type { ExactShape } from "../model/model.ts";
import type { KernelMemory } from "./kernels.ts";

/** Positions of a page, as in assembly/attention.ts: few are left empty, and one head's keys still fill 4 KiB. */
export const pagePositions = 32;

/** Where a layer's keys and values are in a page: those of head 0, followed by the other heads'. */
export interface LayerOffsets {
  readonly keys: number;
  readonly values: number;
  readonly keyExponents: number;
  readonly valueExponents: number;
}

/** How a page is laid out. Plain data, so that threads can be told. */
export interface PageLayout {
  readonly bytes: number;
  readonly layers: readonly LayerOffsets[];
}

export function pageLayout({ headsKv, headDim }: ExactShape, layers: number): PageLayout {
  const mantissas = 2 * headsKv * headDim * pagePositions;
  const exponents = headsKv * pagePositions;
  return {
    bytes: 2 * layers * (mantissas + exponents),
    layers: Array.from({ length: layers }, (_, layer) => {
      const keys = layer * 2 * mantissas;
      const keyExponents = layers * 2 * mantissas + layer * 2 * exponents;
      return {
        keys,
        values: keys + mantissas,
        keyExponents,
        valueExponents: keyExponents + exponents,
      };
    }),
  };
}

export function pagesFor(positions: number): number {
  return Math.ceil(positions / pagePositions);
}

/** Pages are numbers; each counts the sequences that hold it. */
export class PagePool {
  readonly #memory: KernelMemory;
  readonly #bytes: number;
  readonly #addresses: number[] = [];
  readonly #holders: number[] = [];
  readonly #unused: number[] = [];
  /** Pages there may be; infinite where only memory limits them. */
  readonly max: number;

  /** @param max takes the memory of so many pages at once; null: of each when it is needed. @throws SkeinError `overloaded` */
  constructor(memory: KernelMemory, layout: PageLayout, max: number | null) {
    this.#memory = memory;
    this.#bytes = layout.bytes;
    this.max = max ?? Number.POSITIVE_INFINITY;
    const start = max === null ? 0 : memory.allocate(max * layout.bytes);
    for (let page = 0; page < (max ?? 0); page++) this.#unused.push(this.#add(start + page * layout.bytes));
  }

  #add(address: number): number {
    this.#holders.push(0);
    return this.#addresses.push(address) - 1;
  }

  /** Pages that nobody holds. */
  get free(): number {
    return this.#unused.length + (this.max - this.#addresses.length);
  }

  addressOf(page: number): number {
    return this.#addresses[page]!;
  }

  isShared(page: number): boolean {
    return this.#holders[page]! > 1;
  }

  /** @throws SkeinError `overloaded` when there is none */
  take(): number {
    if (this.free <= 0) throw noPages();
    const page = this.#unused.pop() ?? this.#add(this.#memory.allocate(this.#bytes));
    this.#holders[page] = 1;
    return page;
  }

  /** One more holds it. */
  hold(page: number): number {
    this.#holders[page]! += 1;
    return page;
  }

  /** One less holds it. */
  release(page: number): void {
    if (--this.#holders[page]! === 0) this.#unused.push(page);
  }

  /** Another page with the same content; the caller holds that one instead. @throws SkeinError `overloaded` */
  copy(page: number): number {
    const other = this.take();
    const [from, to] = [this.addressOf(page), this.addressOf(other)];
    this.#memory.bytes(to, this.#bytes).set(this.#memory.bytes(from, this.#bytes));
    this.release(page);
    return other;
  }
}

export function noPages(): SkeinError {
  return new SkeinError("overloaded", "There is no memory for more tokens.", {
    hint: "Try again when other answers have ended.",
  });
}
