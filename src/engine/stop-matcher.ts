/**
 * Cuts a streamed text before the first occurrence of any stop sequence. Text that could still turn
 * out to be the beginning of a stop sequence is held back.
 *
 * "First" is by where a sequence begins, as `indexOf` on the whole text would find it, so the result does not
 * depend on how the text was chopped into pieces. Each sequence is followed by an automaton of
 * Knuth, Morris and Pratt: time is linear in the text even for long, self-similar sequences.
 */
export class StopMatcher {
  readonly #candidates: readonly Candidate[];
  #held = "";
  /** Where in `#held` the earliest complete match begins, while an earlier one may still complete. */
  #match: number | null = null;
  #stopped = false;

  constructor(stop: readonly string[]) {
    this.#candidates = stop.filter((sequence) => sequence !== "").map((sequence) => new Candidate(sequence));
  }

  /** Adds text; returns what is now certain. Once stopped, everything later is ignored. */
  push(text: string): { text: string; stopped: boolean } {
    if (this.#stopped) return { text: "", stopped: true };
    let read = this.#held.length;
    this.#held += text;
    while (read < this.#held.length) {
      const unit = this.#held.charCodeAt(read);
      read += 1;
      for (const candidate of this.#candidates) {
        if (candidate.advance(unit)) this.#matchAt(read - candidate.length);
      }
      if (this.#match !== null && this.#match <= this.#certain(read)) return this.#stop(this.#match);
    }
    return { text: this.#take(Math.min(this.#match ?? read, this.#certain(read))), stopped: false };
  }

  /** The end: what was held back is text after all, up to a match that nothing precedes now. */
  flush(): { text: string; stopped: boolean } {
    if (this.#stopped) return { text: "", stopped: true };
    if (this.#match !== null) return this.#stop(this.#match);
    return { text: this.#take(this.#held.length), stopped: false };
  }

  #matchAt(start: number): void {
    this.#match = Math.min(this.#match ?? start, start);
  }

  /** Up to here no stop sequence can begin any more that is not already complete. */
  #certain(read: number): number {
    return this.#candidates.reduce((least, { matched }) => Math.min(least, read - matched), read);
  }

  #stop(at: number): { text: string; stopped: true } {
    this.#stopped = true;
    return { text: this.#take(at), stopped: true };
  }

  #take(length: number): string {
    const taken = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    if (this.#match !== null) this.#match -= length;
    return taken;
  }
}

/** One stop sequence, and how much of its beginning the text ends with. */
class Candidate {
  readonly #sequence: string;
  /** For each prefix the length of its longest proper suffix that is a prefix, too. */
  readonly #borders: readonly number[];
  matched = 0;

  constructor(sequence: string) {
    this.#sequence = sequence;
    this.#borders = bordersOf(sequence);
  }

  get length(): number {
    return this.#sequence.length;
  }

  /** Takes one code unit; true when it completes the sequence. */
  advance(unit: number): boolean {
    this.matched = extend(this.#sequence, this.#borders, this.matched, unit);
    if (this.matched < this.length) return false;
    this.matched = this.#borders[this.length - 1]!;
    return true;
  }
}

function bordersOf(sequence: string): number[] {
  const borders = [0];
  for (let i = 1; i < sequence.length; i++) {
    borders.push(extend(sequence, borders, borders[i - 1]!, sequence.charCodeAt(i)));
  }
  return borders;
}

function extend(sequence: string, borders: readonly number[], matched: number, unit: number): number {
  let length = matched;
  while (length > 0 && sequence.charCodeAt(length) !== unit) length = borders[length - 1]!;
  return sequence.charCodeAt(length) === unit ? length + 1 : 0;
}
