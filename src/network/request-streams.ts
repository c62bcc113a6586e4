/** The requests that are open at one provider: what arrives for each is handed on at once, or waits, within bounds. */
import type { StreamFrame, TokensFrame } from "../protocol/frames.ts";
import { SkeinError } from "../util/errors.ts";
import { frameBytesMax } from "./port.ts";
import { creditBytes, creditEvents, streamsMax } from "./session.ts";

/** Reading this much gives as much back as credit; smaller grants would cost more frames. */
const grantEvents: number = creditEvents / 4;
const grantBytes: number = creditBytes / 4;
/** Credit bounds the tokens; a checkpoint behind some of them, start, end, receipt and error come on top. */
const unreadFramesMax: number = 2 * creditEvents + 8;
/** A provider may finish the frame with which it reaches its limit. */
const unreadBytesMax: number = creditBytes + frameBytesMax;
/** Of all requests of a session together: many times what as many slow clients leave unread of usual tokens. */
const unreadSessionBytesMax: number = 64 * 1024 * 1024;
/** Requests that are remembered after their end, to notice frames that come behind it. */
const endedMax = 1_024;
/** Cancelled requests whose receipts are waited for. */
const lateMax = 256;

export type AnswerFrame = Exclude<
  StreamFrame | TokensFrame,
  { type: "generate" | "count" | "trace" | "embed" }
>;

/** Takes a frame of `bytes`, as a `Sink` does. */
export type TakeFrame = (frame: AnswerFrame, bytes: number) => Promise<void> | undefined;

export class RequestStream {
  readonly id: number;
  /** Settles when there is nothing more to read. */
  readonly over: Promise<void>;
  /** The provider said its last word. */
  ended = false;
  unreadBytes = 0;
  /** What came and was not handed on when it was aborted. */
  readonly leftover: AnswerFrame[] = [];
  readonly #take: TakeFrame;
  /** A receipt may follow the end. */
  readonly #wantsReceipt: boolean;
  readonly #resolve: () => void;
  readonly #reject: (error: unknown) => void;
  /** What came while there was no room for it. */
  #unread: { readonly frame: AnswerFrame; readonly bytes: number }[] = [];
  #isPaused = false;
  #isSettled = false;
  /** What it fails with when what came is read. */
  #failure: SkeinError | null = null;
  #answerEnded = false;
  #readEvents = 0;
  #readBytes = 0;

  constructor(id: number, wantsReceipt: boolean, take: TakeFrame) {
    this.id = id;
    this.#wantsReceipt = wantsReceipt;
    this.#take = take;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.over = promise;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** @throws SkeinError `protocol_violation` when more is unread than its credit allows */
  deliver(frame: AnswerFrame, bytes: number): void {
    this.#saw(frame.type);
    if (this.#isSettled) {
      if (this.leftover.length < unreadFramesMax) this.leftover.push(frame);
      return;
    }
    if (!this.#isPaused) return this.#hand(frame, bytes);
    if (this.#failure !== null) return;
    this.unreadBytes += bytes;
    this.#unread.push({ frame, bytes });
    if (this.unreadBytes > unreadBytesMax || this.#unread.length > unreadFramesMax) {
      throw violation("it ignores the flow control");
    }
  }

  /** Takes notice of how far the answer is. */
  #saw(type: AnswerFrame["type"]): void {
    if (type === "end") this.#answerEnded = true;
    const isOver = ["error", "counted", "traced", "embedded"].includes(type);
    // Behind the end the receipt is the last word; before an error it is not.
    const isLast = this.#answerEnded && (type === "receipt" || !this.#wantsReceipt);
    if (isOver || isLast) this.ended = true;
  }

  #hand(frame: AnswerFrame, bytes: number): void {
    if (this.#isSettled) return;
    try {
      const room = this.#take(frame, bytes);
      if (room === undefined) return;
      this.#isPaused = true;
      room.then(
        () => this.#resume(),
        (error: unknown) => this.abort(error),
      );
    } catch (error) {
      this.abort(error);
    }
  }

  #resume(): void {
    this.#isPaused = false;
    while (!this.#isPaused && !this.#isSettled) {
      const next = this.#unread.shift();
      if (next === undefined) {
        if (this.#failure !== null) this.abort(this.#failure);
        return;
      }
      this.unreadBytes -= next.bytes;
      this.#hand(next.frame, next.bytes);
    }
  }

  /** All that was wanted is read. */
  finish(): void {
    this.#isSettled = true;
    this.#resolve();
  }

  /** Nothing more comes: it fails once what is there is read. */
  fail(error: SkeinError): void {
    this.#failure ??= error;
    if (!this.#isPaused) this.abort(error);
  }

  /** It fails at once. */
  abort(error: unknown): void {
    this.#isSettled = true;
    for (const { frame } of this.#unread) this.leftover.push(frame);
    this.#unread = [];
    this.unreadBytes = 0;
    this.#reject(error);
  }

  /** Counts a frame that was read. Returns how many are to be granted anew; 0: not yet. */
  credit(bytes: number): number {
    this.#readEvents += 1;
    this.#readBytes += bytes;
    if (this.#readEvents < grantEvents && this.#readBytes < grantBytes) return 0;
    const events = this.#readEvents;
    this.#readEvents = 0;
    this.#readBytes = 0;
    return events;
  }
}

export class RequestStreams {
  readonly #open = new Map<number, RequestStream>();
  readonly #ended = new Set<number>();
  /** Cancelled ones whose receipt is on its way. */
  readonly #late = new Map<number, (frame: AnswerFrame) => void>();
  #lastId = 0;

  /** @throws SkeinError `overloaded` */
  open(wantsReceipt: boolean, take: TakeFrame): RequestStream {
    if (this.#open.size >= streamsMax) {
      throw new SkeinError("overloaded", `${streamsMax} requests are open at this provider.`);
    }
    this.#lastId = this.#lastId === 0xffff_ffff ? 1 : this.#lastId + 1;
    const stream = new RequestStream(this.#lastId, wantsReceipt, take);
    this.#ended.delete(stream.id);
    this.#open.set(stream.id, stream);
    return stream;
  }

  /**
   * Hands a frame to its request.
   *
   * @throws SkeinError `protocol_violation`: the provider is not to be trusted with any request
   */
  deliver(frame: AnswerFrame, bytes: number): void {
    const stream = this.#open.get(frame.stream);
    if (stream?.ended === true || this.#ended.has(frame.stream)) {
      throw violation(`a ${frame.type} frame came after the end of request ${frame.stream}`);
    }
    if (stream === undefined) {
      // One that is gone was cancelled while this frame was on its way.
      if (frame.stream > 0 && frame.stream <= this.#lastId) return this.#late.get(frame.stream)?.(frame);
      throw violation(`a ${frame.type} frame came for request ${frame.stream}, which was never sent`);
    }
    stream.deliver(frame, bytes);
    if (stream.unreadBytes > 0 && this.#unreadBytes() > unreadSessionBytesMax) {
      stream.fail(new SkeinError("provider_failed", "Too much of its answers waits to be read."));
    }
  }

  /** Only asked for where a request's reader is slow. */
  #unreadBytes(): number {
    let sum = 0;
    for (const { unreadBytes } of this.#open.values()) sum += unreadBytes;
    return sum;
  }

  /** Forgets a request; what comes for it later is ignored, unless it had ended. */
  close(stream: RequestStream): void {
    if (!this.#open.delete(stream.id) || !stream.ended) return;
    this.#ended.add(stream.id);
    if (this.#ended.size > endedMax) this.#ended.delete(this.#ended.values().next().value!);
  }

  /** Hears frames of a request that is closed; of too many the oldest hears no more. */
  listenOn({ id }: RequestStream, hear: (frame: AnswerFrame) => void): void {
    this.#late.set(id, hear);
    if (this.#late.size > lateMax) this.#late.delete(this.#late.keys().next().value!);
  }

  listenNoMore({ id }: RequestStream): void {
    this.#late.delete(id);
  }

  failAll(error: SkeinError): void {
    for (const stream of this.#open.values()) stream.fail(error);
    this.#open.clear();
  }
}

function violation(why: string): SkeinError {
  return new SkeinError("protocol_violation", `The provider breaks the protocol: ${why}.`);
}
