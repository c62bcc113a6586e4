/** Token sequences in the kernels' memory: which pages hold their keys and values. */
import { SkeinError } from "../../util/errors.ts";
import type { PagedSequence } from "../executor.ts";
import { checkCount } from "../step-checks.ts";
import type { KernelMemory } from "./kernels.ts";
import { pagePositions, type PagePool, pagesFor } from "./pages.ts";

export class WasmSequence implements PagedSequence {
  length = 0;
  readonly owner: object;
  /** Address of its page table: 32-bit addresses of its pages, in order of positions. */
  readonly table: number;
  readonly #sequences: Sequences;
  readonly #pages: number[] = [];
  #isFree = false;

  constructor(owner: object, table: number, sequences: Sequences) {
    this.owner = owner;
    this.table = table;
    this.#sequences = sequences;
  }

  get isFree(): boolean {
    return this.#isFree;
  }

  truncate(length: number): void {
    checkCount("The length of a sequence", length, 0);
    this.length = Math.min(this.length, length);
    const { pool } = this.#sequences;
    for (const page of this.#pages.splice(pagesFor(this.length))) pool.release(page);
  }

  free(): void {
    if (this.#isFree) return;
    this.truncate(0);
    this.#isFree = true;
    this.#sequences.takeBack(this.table);
  }

  fork(length: number): WasmSequence {
    checkCount("The length of a sequence", length, 0);
    if (this.#isFree || length > this.length) {
      throw new SkeinError("invalid_request", `The sequence has no ${length} positions to begin with.`);
    }
    const other = this.#sequences.take(this.owner);
    const { pool } = this.#sequences;
    for (const page of this.#pages.slice(0, pagesFor(length)))
      other.#put(other.#pages.length, pool.hold(page));
    other.length = length;
    return other;
  }

  pagesTo(length: number): number {
    return Math.max(0, pagesFor(length) - this.#pages.length) + (this.#sharesEnd(length) ? 1 : 0);
  }

  /** Takes the pages of the positions up to `length`, each for itself alone. @throws SkeinError `overloaded` */
  grow(length: number): void {
    const { pool } = this.#sequences;
    if (this.#sharesEnd(length)) {
      const last = this.#pages.length - 1;
      this.#put(last, pool.copy(this.#pages[last]!));
    }
    while (this.#pages.length < pagesFor(length)) this.#put(this.#pages.length, pool.take());
  }

  /** Whether the next positions lie in a page that others read, too. */
  #sharesEnd(length: number): boolean {
    const last = this.#pages.at(-1);
    const isPartial = this.length < this.#pages.length * pagePositions;
    return last !== undefined && isPartial && length > this.length && this.#sequences.pool.isShared(last);
  }

  #put(index: number, page: number): void {
    this.#pages[index] = page;
    this.#sequences.write(this.table + 4 * index, page);
  }
}

/** Makes sequences, and lends them page tables. */
export class Sequences {
  readonly pool: PagePool;
  readonly #memory: KernelMemory;
  readonly #tableBytes: number;
  readonly #unused: number[] = [];

  constructor(memory: KernelMemory, pool: PagePool, contextTokensMax: number) {
    this.#memory = memory;
    this.pool = pool;
    this.#tableBytes = 4 * pagesFor(contextTokensMax);
  }

  /** @throws SkeinError `overloaded` when there is no memory */
  take(owner: object): WasmSequence {
    const table = this.#unused.pop() ?? this.#memory.allocate(this.#tableBytes);
    return new WasmSequence(owner, table, this);
  }

  takeBack(table: number): void {
    this.#unused.push(table);
  }

  write(address: number, page: number): void {
    this.#memory.integers(address, 1)[0] = this.pool.addressOf(page);
  }
}
