/** The requests that are open at one provider: what arrived for each and is not read yet, within bounds. */
import type { StreamFrame, TokensFrame } from "../protocol/frames.ts";
import { SkeinError } from "../util/errors.ts";
import { BoundedQueue } from "../util/queue.ts";
import { frameBytesMax } from "./port.ts";
import { creditBytes, creditEvents, streamsMax } from "./session.ts";

/** Reading this much gives as much back as credit; smaller grants would cost more frames. */
const grantEvents: number = creditEvents / 4;
const grantBytes: number = creditBytes / 4;
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

export class RequestStream {
  readonly id: number;
  readonly queue: BoundedQueue<{ readonly frame: AnswerFrame; readonly bytes: number }> = new BoundedQueue(
    // Credit bounds the tokens; a checkpoint behind some of them, start, end, receipt and error come on top.
    2 * creditEvents + 8,
  );
  unreadBytes = 0;
  /** The provider said its last word. */
  ended = false;
  /** A receipt may follow the end. */
  readonly #wantsReceipt: boolean;
  #answerEnded = false;
  #readEvents = 0;
  #readBytes = 0;

  constructor(id: number, wantsReceipt: boolean) {
    this.id = id;
    this.#wantsReceipt = wantsReceipt;
  }

  /** Takes notice of how far the answer is. */
  saw(type: AnswerFrame["type"]): void {
    if (type === "end") this.#answerEnded = true;
    const isOver = ["error", "counted", "traced", "embedded"].includes(type);
    // Behind the end the receipt is the last word; before an error it is not.
    const isLast = this.#answerEnded && (type === "receipt" || !this.#wantsReceipt);
    if (isOver || isLast) this.ended = true;
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
  #unreadBytes = 0;
  #lastId = 0;

  /** @throws SkeinError `overloaded` */
  open({ wantsReceipt }: { wantsReceipt: boolean }): RequestStream {
    if (this.#open.size >= streamsMax) {
      throw new SkeinError("overloaded", `${streamsMax} requests are open at this provider.`);
    }
    this.#lastId = this.#lastId === 0xffff_ffff ? 1 : this.#lastId + 1;
    const stream = new RequestStream(this.#lastId, wantsReceipt);
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
    stream.saw(frame.type);
    stream.unreadBytes += bytes;
    this.#unreadBytes += bytes;
    if (stream.unreadBytes > unreadBytesMax) throw violation("it ignores the flow control");
    try {
      stream.queue.push({ frame, bytes });
    } catch {
      throw violation("it ignores the flow control");
    }
    if (this.#unreadBytes > unreadSessionBytesMax) {
      stream.queue.fail(new SkeinError("provider_failed", "Too much of its answers waits to be read."));
    }
  }

  /** A frame of a request was taken from its queue. */
  read(stream: RequestStream, bytes: number): void {
    stream.unreadBytes -= bytes;
    this.#unreadBytes -= bytes;
  }

  /** Forgets a request; what comes for it later is ignored, unless it had ended. */
  close(stream: RequestStream): void {
    if (!this.#open.delete(stream.id)) return;
    this.#unreadBytes -= stream.unreadBytes;
    stream.unreadBytes = 0;
    if (!stream.ended) return;
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
    for (const { queue } of this.#open.values()) queue.fail(error);
    this.#open.clear();
  }
}

function violation(why: string): SkeinError {
  return new SkeinError("protocol_violation", `The provider breaks the protocol: ${why}.`);
}
