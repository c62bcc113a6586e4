/**
 * What requests remember: keys and values of their tokens, in pages of the executor's pool. Whoever begins like another one shares its
 * pages and gets the same bits. What ended stays, longest unused last, until its pages are needed.
 */
import type { PagedExecutor, PagedSequence } from "../../exact/executor.ts";
import { pagePositions } from "../../exact/wasm/pages.ts";
import { commonPrefix } from "../common-prefix.ts";

export interface Context {
  readonly cache: PagedSequence;
  /** Token ids whose keys and values are in the cache, in order. */
  readonly cells: number[];
  /** Row hashes of the first of them, as far as receipts were wanted (row-hashes.ts). */
  rows: Uint8Array[];
  /** Only who has the same salt shares: nobody learns through speed what others asked. */
  readonly salt: string;
}

export interface TakeWishes {
  readonly salt: string;
  /** Whether row hashes of all positions are wanted. */
  readonly hasRows: boolean;
  /** From this position on everything is evaluated anew. */
  readonly sharedMax: number;
}

/** Ended ones that are kept: each is compared with every prompt. */
const keptMax = 256;

export class ContextPool {
  readonly #executor: PagedExecutor;
  /** Of running requests. */
  readonly #taken = new Set<Context>();
  /** Of ended ones, the longest unused first. */
  readonly #kept: Context[] = [];

  constructor(executor: PagedExecutor) {
    this.#executor = executor;
  }

  /**
   * A context that begins with the longest known beginning of `tokens`. The last token is left out: its logits are wanted.
   * Positions whose row hashes are wanted and nobody knows are not shared.
   * @throws SkeinError `overloaded` when there is no memory for another one
   */
  take(tokens: readonly number[], wishes: TakeWishes): Context {
    const { salt } = wishes;
    let best: Context | null = null;
    let shared = 0;
    for (const context of [...this.#taken, ...this.#kept]) {
      if (context.salt !== salt) continue;
      const common = Math.min(commonPrefix(context.cells, tokens), sharedMaxOf(context, tokens, wishes));
      // Whole pages of those that run: they shall not have to copy one for others.
      const length = this.#taken.has(context) ? wholePages(common) : common;
      if (length <= shared) continue;
      [best, shared] = [context, length];
    }
    const cache = best === null ? this.#executor.newSequence() : best.cache.fork(shared);
    if (best !== null && !this.#taken.has(best)) this.#keepLast(best);
    const rows = best?.rows.slice(0, shared) ?? [];
    const context = { cache, cells: tokens.slice(0, shared), rows, salt };
    this.#taken.add(context);
    return context;
  }

  /** Its request ended: it may serve as the beginning of others. */
  keep(context: Context): void {
    this.#taken.delete(context);
    if (context.cells.length === 0) {
      context.cache.free();
      return;
    }
    // What is the beginning of another one is kept with that.
    const { cells, salt } = context;
    const beginnings = this.#kept.filter(
      (other) =>
        other !== context &&
        other.salt === salt &&
        other.cells.length <= cells.length &&
        commonPrefix(other.cells, cells) === other.cells.length,
    );
    for (const other of beginnings) {
      // The same tokens have the same row hashes.
      if (other.rows.length > context.rows.length) context.rows = other.rows;
      this.#drop(other);
    }
    this.#keepLast(context);
    if (this.#kept.length > keptMax) this.#drop(this.#kept[0]!);
  }

  /** Forgets it altogether. */
  forget(context: Context): void {
    this.#taken.delete(context);
    context.cache.free();
  }

  /**
   * Whether so many pages are free, after those that were used longest ago are given up as far as necessary. Who gives up a page
   * that others share saves them a copy: therefore `pages` is asked again.
   */
  makeRoom(pages: () => number): boolean {
    while (this.#executor.freePages() < pages()) {
      const [coldest] = this.#kept;
      if (coldest === undefined) return false;
      // From its end: what it shares with others is at the beginning.
      const length = wholePages(coldest.cells.length - 1);
      if (length > 0) forgetFrom(coldest, length);
      else this.#drop(coldest);
    }
    return true;
  }

  #keepLast(context: Context): void {
    const index = this.#kept.indexOf(context);
    if (index !== -1) this.#kept.splice(index, 1);
    this.#kept.push(context);
  }

  #drop(context: Context): void {
    this.#kept.splice(this.#kept.indexOf(context), 1);
    context.cache.free();
  }
}

function sharedMaxOf({ rows }: Context, tokens: readonly number[], wishes: TakeWishes): number {
  const known = wishes.hasRows ? rows.length : Number.POSITIVE_INFINITY;
  return Math.min(tokens.length - 1, known, wishes.sharedMax);
}

/** As many of these positions as fill pages. */
export function wholePages(positions: number): number {
  return pagePositions * Math.floor(positions / pagePositions);
}

/** Forgets all positions from `length` on. */
export function forgetFrom(context: Context, length: number): void {
  context.cache.truncate(length);
  context.cells.length = Math.min(context.cells.length, length);
  context.rows.length = Math.min(context.rows.length, length);
}
