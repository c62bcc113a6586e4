/**
 * Which requests run, and which wait for memory. Requests begin in the order in which they came, as soon as their prompts fit; their answers
 * take pages as they grow. When pages run out, the youngest is preempted: it gives its pages up and waits, in front of those who came later.
 * It begins again only when everything it may still need is set aside for it, so that it is preempted once at most. What it lost is
 * evaluated again and gives the same bits.
 */
import { commonPrefix } from "../common-prefix.ts";
import { type ContextPool, wholePages } from "./contexts.ts";
import type { Sequence } from "./sequence.ts";

/** Rows that sequences want in the next step. */
export interface Wish {
  readonly sequence: Sequence;
  readonly count: number;
}

export class Schedule {
  readonly #contexts: ContextPool;
  /** In order of admission. */
  readonly #running = new Set<Sequence>();
  /** In order of arrival. */
  #waiting: Sequence[] = [];

  constructor(contexts: ContextPool) {
    this.#contexts = contexts;
  }

  /** @throws SkeinError `overloaded` when there is no memory for another context; then it is not added */
  add(sequence: Sequence): void {
    this.#waiting.push(sequence);
    try {
      this.admit();
    } catch (error) {
      this.remove(sequence);
      throw error;
    }
  }

  /** It ended or was cancelled. */
  remove(sequence: Sequence): void {
    this.#waiting = this.#waiting.filter((other) => other !== sequence);
    if (this.#running.delete(sequence)) this.#giveUp(sequence);
  }

  /** A step failed: nobody knows what is in their pages. */
  discard(sequence: Sequence): void {
    this.#running.delete(sequence);
    if (sequence.context !== null) this.#contexts.forget(sequence.context);
    sequence.context = null;
  }

  /** Lets in who waits, as long as there is room. */
  admit(): void {
    while (this.#waiting.length > 0 && this.#begin(this.#waiting[0]!)) this.#waiting.shift();
    // A single context always fits: something else holds pages.
    if (this.#waiting.length > 0 && this.#running.size === 0) throw new Error("pages were lost");
  }

  /** Who can be evaluated now: not paused, and not waiting for another one to evaluate the same tokens. */
  active(): Sequence[] {
    const running = [...this.#running];
    for (const sequence of running) this.#follow(sequence);
    return running.filter(({ paused, leader }) => !paused && leader === null);
  }

  /** Who of these has room for the rows it wants: those that are left out were preempted. */
  makeRoom(wishes: readonly Wish[]): Wish[] {
    let left = wishes;
    while (!this.#contexts.makeRoom(() => this.#pagesOf(left))) {
      // Somebody can be preempted, for a single context fits.
      const youngest = [...this.#running]
        .filter(({ isSafe }) => !isSafe)
        .toSorted(byArrival)
        .at(-1);
      if (youngest === undefined) throw new Error("set aside more pages than there are");
      this.#preempt(youngest);
      left = left.filter(({ sequence }) => sequence !== youngest);
    }
    return [...left];
  }

  /** Whether these have room without anybody being preempted. */
  hasRoom(wishes: readonly Wish[]): boolean {
    return this.#contexts.makeRoom(() => this.#pagesOf(wishes));
  }

  #pagesOf(wishes: readonly Wish[]): number {
    let pages = this.#pagesSetAside();
    for (const { sequence, count } of wishes) {
      const { context, isSafe } = sequence;
      if (!isSafe) pages += context!.cache.pagesTo(context!.cells.length + count);
    }
    return pages;
  }

  #pagesSetAside(): number {
    let pages = 0;
    for (const { isSafe, context, lengthMax } of this.#running) {
      if (isSafe) pages += context!.cache.pagesTo(lengthMax);
    }
    return pages;
  }

  #begin(sequence: Sequence): boolean {
    const { tokens, wasPreempted, lengthMax } = sequence;
    const context = this.#contexts.take(tokens, sequence);
    const length = wasPreempted ? lengthMax : tokens.length;
    if (!this.#contexts.makeRoom(() => this.#pagesSetAside() + context.cache.pagesTo(length))) {
      this.#contexts.forget(context);
      return false;
    }
    sequence.begin(context);
    this.#running.add(sequence);
    return true;
  }

  #preempt(sequence: Sequence): void {
    this.#running.delete(sequence);
    this.#giveUp(sequence);
    sequence.wasPreempted = true;
    this.#waiting = [...this.#waiting, sequence].toSorted(byArrival);
  }

  #giveUp(sequence: Sequence): void {
    if (sequence.context !== null) this.#contexts.keep(sequence.context);
    sequence.context = null;
    sequence.leader = null;
  }

  /** Whoever began earlier and reads the same tokens evaluates them for both. */
  #follow(sequence: Sequence): void {
    const { leader, tokens } = sequence;
    if (leader === null && !sequence.isFresh) return;
    if (leader !== null && this.#running.has(leader.sequence)) {
      if (leader.sequence.context!.cells.length < leader.length) return;
    }
    // It got there, or left: its pages are there.
    if (leader !== null) {
      this.#contexts.forget(sequence.context!);
      sequence.context = this.#contexts.take(tokens, sequence);
    }
    sequence.isFresh = false;
    sequence.leader = this.#leaderOf(sequence);
  }

  #leaderOf(sequence: Sequence): Sequence["leader"] {
    const { tokens, salt, hasRows, sharedMax } = sequence;
    let least = sequence.context!.cells.length + 1;
    let leader: Sequence["leader"] = null;
    for (const other of this.#running) {
      if (other === sequence) break;
      if (other.salt !== salt || (hasRows && !other.hasRows)) continue;
      const common = Math.min(commonPrefix(other.tokens, tokens), tokens.length - 1, sharedMax);
      const length = wholePages(common);
      if (length < least || other.context!.cells.length >= length) continue;
      leader = { sequence: other, length };
      least = length + 1;
    }
    return leader;
  }
}

function byArrival(a: Sequence, b: Sequence): number {
  return a.arrival - b.arrival;
}
