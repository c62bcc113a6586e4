/**
 * Answers whose clients may come back: their events are numbered and kept for a while, and the generation goes on
 * without a reader for a bounded time. Only for clients that ask for it: whoever else hangs up is done.
 */
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";

/** Kept of one stream: some thousand tokens. More that nobody has read makes the provider wait. */
export const keptBytesMax: number = 1024 * 1024;
/** Streams that are kept at the same time; together at most 256 MiB. */
export const keptStreamsMax = 256;
/** After its end a stream can be read again for this long. */
export const keptAfterEndMs = 60_000;
/** Ahead of a reader; the connection has a buffer of its own. */
const unreadBytesMax = 64 * 1024;

/** One stream, as whole events of the event stream. */
export class Recording {
  readonly id: string;
  /** Whose it is: a hash of the API key. */
  readonly owner: string;
  readonly #clock: Clock;
  readonly #source: AsyncIterator<string>;
  readonly #abort: AbortController;
  readonly #graceMs: number;
  #events: { readonly text: string; readonly endBytes: number }[] = [];
  /** Number of the first event that is kept. */
  #first = 0;
  #totalBytes = 0;
  #droppedBytes = 0;
  #reader: Reader | null = null;
  #readNumber = 0;
  #wakePump = (): void => undefined;
  #cancelGrace = (): void => undefined;
  ended = false;

  constructor(
    { clock, graceMs }: { clock: Clock; graceMs: number },
    given: { id: string; owner: string; source: AsyncIterator<string>; abort: AbortController },
  ) {
    this.id = given.id;
    this.owner = given.owner;
    this.#clock = clock;
    this.#graceMs = graceMs;
    this.#source = given.source;
    this.#abort = given.abort;
  }

  /** Takes in events until the source ends; its errors are events, too. */
  async run(): Promise<void> {
    try {
      for (;;) {
        const { value, done } = await this.#source.next();
        if (done === true) return;
        this.#keep(value);
        while (this.#isFull()) await new Promise<void>((resolve) => (this.#wakePump = resolve));
      }
    } finally {
      this.ended = true;
      this.#cancelGrace();
      this.#reader?.wake();
    }
  }

  /**
   * Events behind number `after` (-1: all), as they come. A reader that was there before gets no more.
   *
   * @throws SkeinError `not_found` when they are no longer kept
   */
  read(after: number): AsyncIterator<string> {
    const next = after + 1;
    if (next < this.#first || next > this.#first + this.#events.length) {
      throw new SkeinError("not_found", `Event ${after} of this answer is not kept.`, {
        hint: `The oldest one that is kept is ${this.#first}; what a client has read is kept up to ${keptBytesMax} bytes.`,
      });
    }
    this.#reader?.leave();
    this.#cancelGrace();
    const reader = new Reader(
      (number) => this.#after(number),
      () => this.#left(reader),
      next,
    );
    this.#reader = reader;
    this.#readNumber = next;
    this.#wakePump();
    return reader;
  }

  /** Ends the generation; its cost so far stands. */
  cancel(): void {
    this.#abort.abort(new SkeinError("cancelled", "The client cancelled the request."));
    this.#wakePump();
  }

  /** What comes from a number on; null: nothing more will come. */
  #after(number: number): { text: string; next: number } | null {
    const text = this.#events
      .slice(number - this.#first)
      .map((event) => event.text)
      .join("");
    const next = this.#first + this.#events.length;
    this.#readNumber = next;
    this.#wakePump();
    return text === "" && this.ended ? null : { text, next };
  }

  #left(reader: Reader): void {
    if (this.#reader !== reader) return;
    this.#reader = null;
    this.#wakePump();
    if (this.ended) return;
    this.#cancelGrace = this.#clock.schedule(this.#graceMs, () => {
      this.#abort.abort(new SkeinError("cancelled", `The client did not come back in ${this.#graceMs} ms.`));
      this.#wakePump();
    });
  }

  #keep(chunk: string): void {
    for (const event of chunk.split("\n\n").slice(0, -1)) {
      const number = this.#first + this.#events.length;
      const text = `id: ${this.id}:${number}\n${event}\n\n`;
      this.#totalBytes += text.length;
      this.#events.push({ text, endBytes: this.#totalBytes });
    }
    // Only what was read is dropped: the rest is what a client comes back for.
    while (this.#totalBytes - this.#droppedBytes > keptBytesMax && this.#first < this.#readNumber) {
      this.#droppedBytes = this.#events.shift()!.endBytes;
      this.#first += 1;
    }
    this.#reader?.wake();
  }

  #isFull(): boolean {
    if (this.#abort.signal.aborted) return false;
    const readBytes = this.#events[this.#readNumber - this.#first - 1]?.endBytes ?? this.#droppedBytes;
    const unread = this.#totalBytes - readBytes;
    return unread > (this.#reader === null ? keptBytesMax : unreadBytesMax);
  }
}

/** By hand instead of a generator: one that waits for its next event can leave at once. */
class Reader implements AsyncIterator<string> {
  readonly #after: (number: number) => { text: string; next: number } | null;
  readonly #onLeave: () => void;
  #next: number;
  #isLeft = false;
  #wake = (): void => undefined;

  constructor(
    after: (number: number) => { text: string; next: number } | null,
    onLeave: () => void,
    next: number,
  ) {
    this.#after = after;
    this.#onLeave = onLeave;
    this.#next = next;
  }

  async next(): Promise<IteratorResult<string>> {
    while (!this.#isLeft) {
      const got = this.#after(this.#next);
      if (got === null) break;
      this.#next = got.next;
      if (got.text !== "") return { value: got.text, done: false };
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return { value: undefined, done: true };
  }

  async return(): Promise<IteratorResult<string>> {
    this.leave();
    this.#onLeave();
    return { value: undefined, done: true };
  }

  wake(): void {
    this.#wake();
  }

  leave(): void {
    this.#isLeft = true;
    this.#wake();
  }
}

export class ResumableStreams {
  readonly #deps: { clock: Clock; graceMs: number };
  readonly #recordings = new Map<string, Recording>();

  constructor(deps: { clock: Clock; graceMs: number }) {
    this.#deps = deps;
  }

  /** Begins to record; null when too many streams are kept that have not ended. */
  record(given: ConstructorParameters<typeof Recording>[1]): Recording | null {
    if (this.#recordings.size >= keptStreamsMax && !this.#dropEnded()) return null;
    const recording = new Recording(this.#deps, given);
    this.#recordings.set(recording.id, recording);
    const forget = (): void => {
      this.#deps.clock.schedule(keptAfterEndMs, () => this.#recordings.delete(recording.id));
    };
    recording.run().then(forget, forget);
    return recording;
  }

  /** @throws SkeinError `not_found`; also for somebody else's, which is nobody's business */
  find(id: string, owner: string): Recording {
    const recording = this.#recordings.get(id);
    if (recording !== undefined && recording.owner === owner) return recording;
    throw new SkeinError("not_found", `There is no answer ${id.slice(0, 100)} to go on with.`, {
      hint: `Answers are kept for ${keptAfterEndMs / 1000} s after their end, when their request asked for it.`,
    });
  }

  #dropEnded(): boolean {
    for (const [id, { ended }] of this.#recordings) if (ended) return this.#recordings.delete(id);
    return false;
  }
}
