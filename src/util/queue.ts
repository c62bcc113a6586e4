import { SkeinError } from "./errors.ts";

/**
 * A bounded queue between one producer and one consumer, read with `for await`.
 * `push` refuses (throws `overloaded`) beyond `lengthMax`, so that a consumer that stopped reading
 * can never make the producer's memory grow.
 */
export class BoundedQueue<T> implements AsyncIterable<T> {
  readonly lengthMax: number;
  #items: T[] = [];
  #waiting: (() => void) | undefined;
  #ended = false;
  #error: unknown;

  constructor(lengthMax: number) {
    this.lengthMax = lengthMax;
  }

  get length(): number {
    return this.#items.length;
  }

  /** Adds an item; ignored after the end. Throws `overloaded` when the queue is full. */
  push(item: T): void {
    if (this.#ended) return;
    if (this.#items.length >= this.lengthMax) {
      throw new SkeinError("overloaded", `A queue is full (${this.lengthMax} items).`);
    }
    this.#items.push(item);
    this.#wake();
  }

  /** No more items will come; those already queued are still delivered. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** Like `end`, but the consumer's loop throws `error` after the queued items. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#error = error;
    this.end();
  }

  #wake(): void {
    this.#waiting?.();
    this.#waiting = undefined;
  }

  /** By hand instead of a generator: every token of every answer passes here. */
  [Symbol.asyncIterator](): AsyncIterator<T> {
    return { next: () => this.#next(), return: () => Promise.resolve({ done: true, value: undefined }) };
  }

  async #next(): Promise<IteratorResult<T, undefined>> {
    while (this.#items.length === 0) {
      if (this.#ended) {
        if (this.#error !== undefined) throw this.#error;
        return { done: true, value: undefined };
      }
      await new Promise<void>((resolve) => (this.#waiting = resolve));
    }
    return { done: false, value: this.#items.shift()! };
  }
}
