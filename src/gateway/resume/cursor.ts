/**
 * How much of a stream a client has: what stands behind the colon of an event's id. One number per choice (0: nothing,
 * 1: its opening, then one more for each UTF-16 unit of text, and one for its end), then how many closing events came.
 * It counts text, not events, so that it means the same after a restart, whatever pieces the rest comes in. Text is what the
 * model wrote, marks of thoughts and calls included.
 */

/** Digits of a number, more than any answer needs. */
const digitsMax = 10;

export class Cursor {
  readonly counts: number[];
  closings: number;

  constructor(choices: number, counts: readonly number[] = [], closings = 0) {
    this.counts = Array.from({ length: choices }, (_, i) => counts[i] ?? 0);
    this.closings = closings;
  }

  /** Null: not one of a stream with so many choices. */
  static parse(text: string, choices: number): Cursor | null {
    const parts = text.split(".");
    if (parts.length !== choices && parts.length !== choices + 1) return null;
    if (!parts.every((part) => /^\d+$/.test(part) && part.length <= digitsMax)) return null;
    const numbers = parts.map(Number);
    return new Cursor(choices, numbers.slice(0, choices), numbers[choices] ?? 0);
  }

  opened(choice: number): void {
    this.counts[choice] = Math.max(1, this.counts[choice]!);
  }

  /** @param chars UTF-16 units of text */
  went(choice: number, chars: number): void {
    this.opened(choice);
    this.counts[choice]! += chars;
  }

  ended(choice: number): void {
    this.went(choice, 1);
  }

  closing(): void {
    this.closings += 1;
  }

  toString(): string {
    const counts = this.counts.join(".");
    return this.closings === 0 ? counts : `${counts}.${this.closings}`;
  }
}
