/**
 * Writes streams down whose clients may come back, so that another process can go on with them. The request is on the
 * disk before the client hears anything; what was generated follows at intervals, all streams in one flush. A client's
 * cursor says what it has: what was generated after the last entry is generated again, and nothing is lost.
 */
import { encodeCbor } from "../../protocol/cbor.ts";
import { type Change, type Store, valueBytesMax } from "../../store/port.ts";
import { concatBytes } from "../../util/bytes.ts";
import type { Clock } from "../../util/clock.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Logger } from "../../util/log.ts";
import type { ChoiceEnd } from "../answers/answer-choice.ts";
import type { Slice } from "../attempts/attempt.ts";
import {
  headRecord,
  partsRecord,
  type JournalEntry,
  type JournalHead,
  readEntries,
  readHead,
  type StoredChoice,
} from "./journal-records.ts";
import { keptAfterEndMs } from "./resumable-streams.ts";
import type { Held } from "../attempts/runner.ts";

/** How often what was generated is written down: what a crash makes be generated again. */
export const journalIntervalMs = 250;
/** Prompts of all streams that are written down at a time. */
const headsBytesMax: number = 256 * 1024 * 1024;
/** Records read in one go. */
const scanMax = 1_000;

interface JournalDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly store: Store;
}

/** A choice as it is now. */
export class LiveChoice {
  /** Who answers; null: nobody yet. */
  held: Held | null = null;
  end: ChoiceEnd | null;
  /** What an earlier process has of it. */
  readonly from: StoredChoice | null;
  /** Its providers may have to find this process first. */
  readonly isRestored: boolean;

  constructor(from: StoredChoice | null = null, isRestored = false) {
    this.from = from;
    this.isRestored = isRestored;
    this.end = from?.end ?? null;
  }
}

export interface StoredStream {
  readonly head: JournalHead;
  readonly choices: (count: number) => (StoredChoice | null)[];
  readonly nextEntry: number;
}

/** All streams of this gateway that are written down. */
export class Journals {
  readonly #deps: JournalDeps;
  readonly #keptMs: number;
  readonly #open = new Set<Journal>();
  #headsBytes = 0;
  #cancel: (() => void) | null = null;
  #isFrozen = false;

  /** @param requestTimeoutMs after which nothing more is generated for a request */
  constructor(deps: JournalDeps, { requestTimeoutMs }: { requestTimeoutMs: number }) {
    this.#deps = deps;
    this.#keptMs = requestTimeoutMs + keptAfterEndMs;
  }

  /** Null when too much is written down already. */
  open(id: string, head: JournalHead, lives: readonly LiveChoice[], nextEntry = 0): Journal | null {
    const bytes = head.body.length;
    if (this.#isFrozen || this.#headsBytes + bytes > headsBytesMax) return null;
    this.#headsBytes += bytes;
    const journal = new Journal(this.#deps, { id, head, lives, nextEntry, keptMs: this.#keptMs }, () => {
      if (this.#open.delete(journal)) this.#headsBytes -= bytes;
      return !this.#isFrozen;
    });
    this.#open.add(journal);
    if (this.#cancel === null) this.#schedule();
    return journal;
  }

  /** Null when nothing is kept of it, or not for this owner. @throws SkeinError `store_failed` */
  async find(id: string, owner: string): Promise<StoredStream | null> {
    if (!/^[0-9a-f]{1,64}$/.test(id)) return null;
    const heads = await this.#deps.store.scan({ prefix: `${prefixOf(id)}head/`, limit: scanMax });
    if (heads.length === 0) return null;
    const head = readHead(concatBytes(heads.map(({ value }) => value)));
    if (head.owner !== owner) return null;
    const entries: Uint8Array[] = [];
    const prefix = `${prefixOf(id)}entry/`;
    for (let after = prefix; ;) {
      const found = await this.#deps.store.scan({ prefix, after, limit: scanMax });
      if (found.length === 0) break;
      entries.push(...found.map(({ value }) => value));
      after = found.at(-1)!.key;
    }
    return { head, choices: (count) => readEntries(entries, count), nextEntry: entries.length };
  }

  /** Deletes what is kept of a stream. */
  async delete(id: string): Promise<void> {
    await this.#deps.store.commit({ changes: [{ type: "deletePrefix", prefix: prefixOf(id) }] });
  }

  /** This process ends: what streams have is written once more, and stays for the next one. */
  freeze(): void {
    this.#isFrozen = true;
    this.#cancel?.();
    for (const journal of this.#open) void journal.write();
  }

  #schedule(): void {
    this.#cancel = this.#deps.clock.schedule(journalIntervalMs, () => {
      this.#cancel = null;
      for (const journal of this.#open) void journal.write();
      if (this.#open.size > 0) this.#schedule();
    });
  }
}

interface JournalValues {
  readonly id: string;
  readonly head: JournalHead;
  readonly lives: readonly LiveChoice[];
  readonly nextEntry: number;
  readonly keptMs: number;
}

/** What the entries hold of a choice. */
interface Written {
  tokens: number;
  chars: number;
  /** Attempts that are over. */
  parts: number;
  isEnded: boolean;
}

export class Journal {
  readonly #deps: JournalDeps;
  readonly #values: JournalValues;
  /** Takes it out of those that are written; false: nothing may be deleted any more. */
  readonly #leave: () => boolean;
  readonly #expiresAtMs: number;
  #nextEntry: number;
  readonly #written: Written[];
  #isWriting = false;
  /** Whether the last write failed: that is said once, not with every try. */
  #isFailing = false;

  constructor(deps: JournalDeps, values: JournalValues, leave: () => boolean) {
    this.#deps = deps;
    this.#values = values;
    this.#leave = leave;
    this.#nextEntry = values.nextEntry;
    this.#expiresAtMs = values.head.createdMs + values.keptMs;
    this.#written = values.lives.map(({ from }) => ({
      tokens: from?.progress.tokenIds.length ?? 0,
      chars: from?.progress.text.length ?? 0,
      // All of them again: the one that ran is over now.
      parts: 0,
      isEnded: from?.end != null,
    }));
  }

  /** Resolves with true when the request is on the disk; false: it will not survive this process. */
  async begin(): Promise<boolean> {
    const { id, head } = this.#values;
    const bytes = encodeCbor(headRecord(head));
    const changes: Change[] = [];
    for (let from = 0; from < bytes.length; from += valueBytesMax) {
      const key = `${prefixOf(id)}head/${numbered(changes.length)}`;
      changes.push(this.#put(key, bytes.subarray(from, from + valueBytesMax)));
    }
    if (await this.#commit(changes)) return true;
    this.forget();
    return false;
  }

  /** Writes down what came since the last entry. Never rejects, and never twice at a time. */
  async write(): Promise<void> {
    if (this.#isWriting) return;
    const { lives } = this.#values;
    const counts = lives.map(({ held }) => held?.progress.parts.length ?? 0);
    const entries = lives.flatMap((live, choice) => this.#entryOf(live, choice) ?? []);
    if (entries.length === 0) return;
    this.#isWriting = true;
    const key = `${prefixOf(this.#values.id)}entry/${numbered(this.#nextEntry)}`;
    // One that failed is written again, with what came since, under the same key.
    if (await this.#commit([this.#put(key, encodeCbor(entries))])) {
      this.#nextEntry += 1;
      for (const { choice, tokenIds, text, end } of entries) {
        const written = this.#written[choice]!;
        written.tokens += tokenIds.length;
        written.chars += text.length;
        written.parts = counts[choice]!;
        written.isEnded = end !== null;
      }
    }
    this.#isWriting = false;
  }

  /** What came last; a whole answer can be read again for a while. */
  ended(): void {
    void this.write();
  }

  /** Is written no more, but stays for another try. */
  release(): void {
    this.#leave();
  }

  forget(): void {
    if (!this.#leave()) return;
    const prefix = prefixOf(this.#values.id);
    void this.#commit([{ type: "deletePrefix", prefix }]);
  }

  /** Null: nothing to write. */
  #entryOf({ held, end }: LiveChoice, choice: number): JournalEntry | null {
    const written = this.#written[choice]!;
    if (held === null || written.isEnded) return null;
    const { progress } = held;
    const { idsComplete, position, promptTokens, cachedTokens } = progress;
    // Before there is text an answer may still begin anew.
    if (progress.text === "" && end === null) return null;
    if (progress.tokenIds.length === written.tokens && progress.text.length === written.chars && end === null)
      return null;
    return {
      choice,
      tokenIds: progress.tokenIds.slice(written.tokens),
      text: progress.text.slice(written.chars),
      state: { idsComplete, position, promptTokens, cachedTokens, slices: slicesOf(held, end) },
      ...this.#partsOf(held, written),
      end: end === null ? null : { ...end, text: "" },
    };
  }

  /** What was signed: attempts that are over once, the one that runs as it is. */
  #partsOf({ progress: { parts, open } }: Held, written: Written): Pick<JournalEntry, "parts" | "open"> {
    return {
      parts: parts.length === written.parts ? null : partsRecord(parts),
      open:
        open === null
          ? null
          : { part: partsRecord([open.receipt.unfinished()]), chars: open.startText.length },
    };
  }

  #put(key: string, value: Uint8Array): Change {
    return { type: "put", key, value, expiresAtMs: this.#expiresAtMs };
  }

  async #commit(changes: readonly Change[]): Promise<boolean> {
    try {
      const isWritten = await this.#deps.store.commit({ changes });
      this.#isFailing = false;
      return isWritten;
    } catch (error) {
      const reason = toSkeinError(error).message;
      if (!this.#isFailing) this.#deps.log.warn({ reason }, "a stream cannot be written down");
      this.#isFailing = true;
      return false;
    }
  }
}

/** What each provider delivered; the time of one that still answers is only known when it ends, and not charged before. */
function slicesOf({ progress, to }: Held, end: ChoiceEnd | null): Slice[] {
  const charged = progress.slices.reduce((sum, slice) => sum + slice.outputTokens, 0);
  const outputTokens = progress.position - charged;
  if (end !== null || outputTokens <= 0) return [...progress.slices];
  const { providerId, offer } = to.candidate;
  return [...progress.slices, { providerId, offer, outputTokens, durationMs: 0 }];
}

function prefixOf(id: string): string {
  return `resume/${id}/`;
}

/** In the order of keys. */
function numbered(number: number): string {
  return String(number).padStart(6, "0");
}

export function notKept(id: string): SkeinError {
  return new SkeinError("not_found", `There is no answer ${id.slice(0, 100)} to go on with.`, {
    hint: `Answers are kept for ${keptAfterEndMs / 1000} s after their end, when their request asked for it.`,
  });
}
