/** What of a stream's replicas can be told already: the text that all of them have delivered. */
import type { Piece } from "../answers/logprobs.ts";

interface Heard {
  text: string;
  readonly pieces: { readonly start: number; readonly piece: Piece }[];
}

export class AgreedText {
  /** By replica. */
  readonly #heard = new Map<number, Heard>();
  readonly #replicasMin: number;
  /** Characters that all have in common. */
  #common = 0;
  #told = "";

  /** @param replicasMin of fewer nothing is told */
  constructor(replicasMin: number) {
    this.#replicasMin = replicasMin;
  }

  join(replica: number): void {
    this.#heard.set(replica, { text: "", pieces: [] });
  }

  add(replica: number, piece: Piece): void {
    const heard = this.#heard.get(replica);
    if (heard === undefined) return;
    heard.pieces.push({ start: heard.text.length, piece });
    heard.text += piece.text;
  }

  /** It failed: what it said says nothing. */
  drop(replica: number): void {
    this.#heard.delete(replica);
  }

  /** Pieces that can be told now, with their log probabilities. */
  take(): Piece[] {
    if (this.#heard.size < this.#replicasMin) return [];
    const texts = [...this.#heard.values()].map(({ text }) => text);
    const shortest = Math.min(...texts.map(({ length }) => length));
    const [first] = texts;
    while (
      this.#common < shortest &&
      texts.every((text) => text.charCodeAt(this.#common) === first!.charCodeAt(this.#common))
    ) {
      this.#common += 1;
    }
    return this.#tell([...this.#heard.values()][0]!, this.#common);
  }

  /** All that is left of the replica whose answer counts; null: it does not go on from what was told. */
  takeAll(replica: number): Piece[] | null {
    const heard = this.#heard.get(replica);
    if (heard === undefined || !heard.text.startsWith(this.#told)) return null;
    return this.#tell(heard, heard.text.length);
  }

  /** Whole pieces up to a character; one of another replica that overlaps with what was told is cut. */
  #tell({ pieces }: Heard, until: number): Piece[] {
    const told: Piece[] = [];
    while (pieces.length > 0) {
      const { start, piece } = pieces[0]!;
      const end = start + piece.text.length;
      if (end > until) break;
      pieces.shift();
      const from = Math.max(0, this.#told.length - start);
      if (from >= piece.text.length && piece.text !== "") continue;
      const logprobs = piece.logprobs?.filter(({ textOffset }) => textOffset >= start + from) ?? null;
      const rest = from === 0 ? piece : { ...piece, text: piece.text.slice(from), logprobs };
      told.push(rest);
      this.#told += rest.text;
    }
    return told;
  }
}
