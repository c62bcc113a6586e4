/**
 * Answers whose clients may come back: their events are numbered and kept for a while, and the generation goes on
 * without a reader for a bounded time. Only for clients that ask for it: whoever else hangs up is done.
 */
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Sink } from "../../util/sink.ts";

/** Kept of one stream: some thousand tokens. More that nobody has read makes the provider wait. */
export const keptBytesMax: number = 1024 * 1024;
/** Streams that are kept at the same time; together at most 256 MiB. */
export const keptStreamsMax = 256;
/** After its end a stream can be read again for this long. */
export const keptAfterEndMs = 60_000;
/** Ahead of a reader; the connection has a buffer of its own. */
const unreadBytesMax = 64 * 1024;

/** Where a stream is written down besides. */
export interface WrittenStream {
  /** It has ended, however it did. */
  ended(): void;
  /** Nobody will come back to it. */
  forget(): void;
}

export interface RecordingValues {
  readonly id: string;
  /** Whose it is: who has another API key does not find it. */
  readonly owner: string;
  readonly abort: AbortController;
  /** Whole events that were told already, and read by the client. */
  readonly read?: readonly string[];
}

interface KeptEvent {
  readonly id: string;
  readonly text: string;
  readonly endBytes: number;
}

/** One stream, as whole events of the event stream. */
export class Recording {
  readonly id: string;
  readonly owner: string;
  readonly #clock: Clock;
  readonly #abort: AbortController;
  /** Null: nothing of it survives this process. */
  #written: WrittenStream | null = null;
  readonly #graceMs: number;
  readonly #onEnd: () => void;
  #events: KeptEvent[] = [];
  /** Number of the first event that is kept, and the id of the one before it. */
  #first = 0;
  #droppedId = "";
  #totalBytes = 0;
  #droppedBytes = 0;
  #reader: Reader | null = null;
  #readNumber = 0;
  /** Set while there is no room for more. */
  #full: PromiseWithResolvers<void> | null = null;
  #cancelGrace = (): void => undefined;
  ended = false;

  constructor(
    { clock, graceMs }: { clock: Clock; graceMs: number },
    given: RecordingValues,
    onEnd: () => void = () => undefined,
  ) {
    this.#onEnd = onEnd;
    this.id = given.id;
    this.owner = given.owner;
    this.#clock = clock;
    this.#graceMs = graceMs;
    this.#abort = given.abort;
    given.abort.signal.addEventListener("abort", () => this.#checkRoom(), { once: true });
    for (const chunk of given.read ?? []) this.#keep(chunk);
    this.#readNumber = this.#events.length;
  }

  /** Whether another process could go on with it. */
  get survives(): boolean {
    return this.#written !== null;
  }

  /** Another process could go on with it from now on; null: none can. */
  isWritten(written: WrittenStream | null): void {
    this.#written = written;
    if (this.ended) written?.ended();
  }

  /** Takes whole events, each with its id in its first line. */
  readonly write: Sink<string> = (text) => {
    this.#keep(text);
    if (!this.#isFull()) return undefined;
    this.#full ??= Promise.withResolvers();
    return this.#full.promise;
  };

  /** @param last whole events behind all others */
  end(last: string): void {
    this.#keep(last);
    this.ended = true;
    this.#written?.ended();
    this.#cancelGrace();
    this.#reader?.wake();
    this.#onEnd();
  }

  #checkRoom(): void {
    if (this.#full === null || this.#isFull()) return;
    this.#full.resolve();
    this.#full = null;
  }

  /** It is kept for a while after its end, and so is what is written down. */
  forgotten(): void {
    this.#written?.forget();
  }

  /**
   * Events behind the one with id `after` (null: all), as they come. A reader that was there before gets no more.
   *
   * @throws SkeinError `not_found` when they are no longer kept
   */
  read(after: string | null): AsyncIterator<string> {
    return this.#readFrom(after === null ? 0 : this.#numberBehind(after), after ?? "the first");
  }

  /** What the client has not read. */
  readOn(): AsyncIterator<string> {
    return this.#readFrom(this.#readNumber, "the last");
  }

  #numberBehind(id: string): number {
    const index = this.#events.findLastIndex((event) => event.id === id);
    if (index < 0 && id !== this.#droppedId) return -1;
    return this.#first + index + 1;
  }

  #readFrom(next: number, name: string): AsyncIterator<string> {
    if (next < this.#first) {
      const oldest = this.#events[0]?.id ?? "not there yet";
      throw new SkeinError(
        "not_found",
        `What comes behind event ${name.slice(0, 100)} of this answer is not kept.`,
        {
          hint: `The oldest one that is kept is ${oldest}; what a client has read is kept up to ${keptBytesMax} bytes.`,
        },
      );
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
    this.#checkRoom();
    return reader;
  }

  /** Ends the generation; its cost so far stands. */
  cancel(): void {
    this.#abort.abort(new SkeinError("cancelled", "The client cancelled the request."));
    this.#written?.forget();
    this.#checkRoom();
  }

  /** What comes from a number on; null: nothing more will come. */
  #after(number: number): { text: string; next: number } | null {
    const text = this.#events
      .slice(number - this.#first)
      .map((event) => event.text)
      .join("");
    const next = this.#first + this.#events.length;
    this.#readNumber = next;
    this.#checkRoom();
    return text === "" && this.ended ? null : { text, next };
  }

  #left(reader: Reader): void {
    if (this.#reader !== reader) return;
    this.#reader = null;
    this.#checkRoom();
    if (this.ended) return;
    this.#cancelGrace = this.#clock.schedule(this.#graceMs, () => {
      this.#abort.abort(new SkeinError("cancelled", `The client did not come back in ${this.#graceMs} ms.`));
      this.#written?.forget();
      this.#checkRoom();
    });
  }

  #keep(chunk: string): void {
    for (const event of chunk.split("\n\n").slice(0, -1)) {
      const id = /^id: (.*)\n/.exec(event)?.[1] ?? "";
      this.#totalBytes += event.length + 2;
      this.#events.push({ id, text: `${event}\n\n`, endBytes: this.#totalBytes });
    }
    // Only what was read is dropped: the rest is what a client comes back for.
    while (this.#totalBytes - this.#droppedBytes > keptBytesMax && this.#first < this.#readNumber) {
      const { id, endBytes } = this.#events.shift()!;
      this.#droppedId = id;
      this.#droppedBytes = endBytes;
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
  /** Streams of an earlier process that are being taken up. */
  readonly restoring: Map<string, Promise<unknown>> = new Map();

  constructor(deps: { clock: Clock; graceMs: number }) {
    this.#deps = deps;
  }

  /** Begins to record. One that ended gives way, where there are too many. */
  record(given: RecordingValues): Recording {
    if (this.#recordings.size >= keptStreamsMax) this.#dropEnded();
    const recording = new Recording(this.#deps, given, () =>
      this.#deps.clock.schedule(keptAfterEndMs, () => {
        this.drop(recording);
        recording.forgotten();
      }),
    );
    this.#recordings.set(recording.id, recording);
    return recording;
  }

  /** Nobody can come back to it any more. */
  drop(recording: Recording): void {
    if (this.#recordings.get(recording.id) === recording) this.#recordings.delete(recording.id);
  }

  get isFull(): boolean {
    return (
      this.#recordings.size >= keptStreamsMax && ![...this.#recordings.values()].some(({ ended }) => ended)
    );
  }

  /** Null when there is none; also for somebody else's, which is nobody's business. */
  find(id: string, owner: string): Recording | null {
    const recording = this.#recordings.get(id);
    return recording !== undefined && recording.owner === owner ? recording : null;
  }

  #dropEnded(): void {
    for (const [id, { ended }] of this.#recordings) if (ended) return void this.#recordings.delete(id);
  }
}
