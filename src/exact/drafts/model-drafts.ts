/**
 * Guesses with a smaller model of the same tokenizer. It draws with the same numbers as the large one (key and position are the
 * same), so that both agree more often than their probabilities say, at any temperature.
 */
import type { PagedExecutor, PagedSequence, StepRow } from "../executor.ts";
import type { DraftSource, DraftWish } from "./draft-source.ts";

interface Draft {
  readonly cache: PagedSequence;
  /** Tokens whose keys and values are in the cache. */
  readonly cells: number[];
}

/** A wish that is ready: its draft model has read everything but what it gets next. */
interface Drafting {
  readonly wish: DraftWish;
  readonly draft: Draft;
  readonly guessed: number[];
  /** What is evaluated next. */
  input: readonly number[];
}

export class ModelDrafts implements DraftSource {
  readonly isFree = false;
  readonly #executor: PagedExecutor;
  /** Of the model whose tokens are guessed: larger ids do not exist there. */
  readonly #vocabularySize: number;
  readonly #drafts = new Map<object, Draft>();

  constructor(executor: PagedExecutor, vocabularySize: number) {
    this.#executor = executor;
    this.#vocabularySize = Math.min(vocabularySize, executor.shape.vocabularySize);
  }

  propose(wishes: readonly DraftWish[]): readonly (readonly number[])[] {
    const { rowsMax } = this.#executor;
    // 1. What the draft model has not read yet, as far as one step goes: long prompts take several calls.
    let room = rowsMax;
    const ready: Drafting[] = [];
    for (const wish of wishes) {
      const draft = this.#draftOf(wish);
      if (draft === null) continue;
      const missing = wish.tokens.slice(draft.cells.length);
      if (missing.length <= room) {
        ready.push({ wish, draft, guessed: [], input: missing });
        room -= missing.length;
      } else if (room === rowsMax) {
        this.#read(draft, missing.slice(0, room));
        room = 0;
      }
    }
    // 2. One token after the other, for all sequences together.
    const guesses = new Map(ready.map(({ wish, guessed }) => [wish, guessed]));
    for (let left = ready; left.length > 0;) left = this.#advance(left);
    return wishes.map((wish) => guesses.get(wish) ?? []);
  }

  forget(key: object): void {
    this.#drafts.get(key)?.cache.free();
    this.#drafts.delete(key);
  }

  /** With as much of the wish's tokens as it has read; null where it has no room for them. */
  #draftOf({ key, tokens, countMax }: DraftWish): Draft | null {
    const { contextTokensMax } = this.#executor;
    let draft = this.#drafts.get(key);
    if (draft === undefined) {
      draft = { cache: this.#executor.newSequence(), cells: [] };
      this.#drafts.set(key, draft);
    }
    const { cells, cache } = draft;
    // Guesses that were wrong; the last token is read again when nothing else is to be.
    let same = 0;
    while (same < cells.length && same < tokens.length - 1 && cells[same] === tokens[same]) same++;
    cache.truncate(same);
    cells.length = same;
    const length = tokens.length + countMax;
    if (length <= contextTokensMax && cache.pagesTo(length) <= this.#executor.freePages()) return draft;
    this.forget(key);
    return null;
  }

  #read({ cache, cells }: Draft, tokens: readonly number[]): void {
    this.#executor.step(tokens.map((input) => ({ sequence: cache, input, wantsLogits: false })));
    cells.push(...tokens);
  }

  /** One step; returns who goes on. */
  #advance(all: readonly Drafting[]): Drafting[] {
    const fitting = all.filter((_, i) => i < this.#executor.rowsMax);
    let missing = 0;
    for (const { draft, input } of fitting) missing += draft.cache.pagesTo(draft.cells.length + input.length);
    if (missing > this.#executor.freePages()) return [];
    const rows = fitting.flatMap(({ draft, input }) =>
      input.map((token, i): StepRow => {
        return { sequence: draft.cache, input: token, wantsLogits: i === input.length - 1 };
      }),
    );
    const outputs = this.#executor.step(rows).filter((output) => output !== null);
    return fitting.filter((one, i) => {
      const { draft, wish, guessed, input } = one;
      draft.cells.push(...input);
      const token = wish.draw(outputs[i]!, guessed);
      if (token === null || token >= this.#vocabularySize) return false;
      guessed.push(token);
      one.input = [token];
      return guessed.length < wish.countMax;
    });
  }
}
