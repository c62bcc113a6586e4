/** The gateway's end of a session: verifies offers, watches the heartbeat, multiplexes requests. */
import type { Frame } from "../protocol/frames.ts";
import type { Embedded, EmbedRequest } from "../protocol/embed.ts";
import type { GenerateEvent, GenerateRequest, Prompt, Traced, TraceRequest } from "../protocol/generate.ts";
import type { Counted, CountRequest, Failure } from "../protocol/messages.ts";
import type { Offer, ProviderStatus, SignedEnvelope } from "../protocol/offer.ts";
import { openOffer } from "../protocol/signing.ts";
import { abortError, throwIfAborted } from "../util/abort.ts";
import { isErrorCode, SkeinError, toSkeinError } from "../util/errors.ts";
import type { Sink } from "../util/sink.ts";
import { EventChecker } from "./event-checker.ts";
import { FrameWriter } from "./frame-writer.ts";
import { greetProvider } from "./handshake.ts";
import { Heartbeat } from "./heartbeat.ts";
import type { Connection } from "./port.ts";
import { type AnswerFrame, type RequestStream, RequestStreams, type TakeFrame } from "./request-streams.ts";
import {
  type CoordinateRecord,
  creditEvents,
  type JoinPolicy,
  type ProviderSession,
  type RoundTripFloor,
  type SessionDeps,
} from "./session.ts";

/** An offer that expired without a renewal is withdrawn within this time. */
const expiryCheckMs = 5_000;

/** From a cancellation to the receipt: what is on its way, a signature and a write to the provider's disk. */
const lateReceiptMs = 2_000;

const idleStatus: ProviderStatus = { active: 0, queued: 0, ready: false, reason: "no status yet" };

/** Completes the handshake with a provider that connected. @throws SkeinError when it is refused */
export async function acceptProviderSession(
  deps: SessionDeps,
  connection: Connection,
  options: { gatewayId: string; policy: JoinPolicy; software: string },
): Promise<ProviderSession> {
  const { reader } = await greetProvider(deps, connection, options);
  const session = new GatewaySideSession(deps, connection);
  reader.handOver((frame, bytes) => session.receive(frame, bytes));
  session.start();
  return session;
}

/** What a single question is answered with. */
interface Replies {
  counted: Counted;
  traced: Traced;
  embedded: Embedded;
}

type Question =
  | { readonly type: "generate"; readonly body: GenerateRequest }
  | { readonly type: "count"; readonly body: CountRequest }
  | { readonly type: "trace"; readonly body: TraceRequest }
  | { readonly type: "embed"; readonly body: EmbedRequest };

interface ExchangeOptions {
  readonly signal: AbortSignal;
  readonly wantsReceipt: boolean;
  /** It was cancelled in the middle. */
  readonly onCut?: (stream: RequestStream) => void;
}

class GatewaySideSession implements ProviderSession {
  offer: Offer | null = null;
  status: ProviderStatus = idleStatus;
  closed = false;
  readonly providerId: string;
  readonly remoteAddress: string;
  readonly #deps: SessionDeps;
  readonly #connection: Connection;
  readonly #writer: FrameWriter;
  readonly #heartbeat: Heartbeat;
  readonly #streams = new RequestStreams();
  #changeListeners: (() => void)[] = [];
  #closeListeners: ((reason: string) => void)[] = [];
  #closeReason = "";
  /** Offers are verified one after another, so that an older one cannot overtake. */
  #verifying: Promise<void> = Promise.resolve();
  #cancelExpiry: () => void = () => undefined;

  constructor(deps: SessionDeps, connection: Connection) {
    this.#deps = deps;
    this.#connection = connection;
    this.providerId = connection.peerId;
    this.remoteAddress = connection.remoteAddress;
    this.#writer = new FrameWriter(deps.clock, connection);
    this.#heartbeat = new Heartbeat(deps, connection.peerId, {
      ping: (id) => void this.#writer.write({ type: "ping", body: { id } }),
      lost: (reason) => this.close(reason),
      measured: () => this.#changed(),
    });
  }

  get roundTripMs(): number | null {
    return this.#heartbeat.roundTripMs;
  }

  get jitterMs(): number | null {
    return this.#heartbeat.jitterMs;
  }

  get roundTripFloor(): RoundTripFloor | null {
    return this.#heartbeat.floor;
  }

  get unansweredMs(): number {
    return this.#heartbeat.unansweredMs;
  }

  get estimatedRoundTripMs(): number | null {
    const told = this.offer?.coordinate;
    if (told === undefined) return null;
    return this.#deps.whereabouts?.estimateMs(this.providerId, told) ?? null;
  }

  get coordinateRecord(): CoordinateRecord {
    return this.#deps.whereabouts?.recordOf(this.providerId) ?? { measurements: 0, contradictions: 0 };
  }

  start(): void {
    this.#connection.onClose((reason) => this.#onClosed(reason));
    this.#connection.onActivity(() => this.#heartbeat.heard());
    this.#heartbeat.start();
    this.#watchExpiry();
  }

  receive(frame: Frame, bytes: number): void {
    switch (frame.type) {
      case "ping":
        return void this.#writer.write({ type: "pong", body: this.#heartbeat.answer(frame.body) });
      case "pong":
        return this.#heartbeat.pong(frame.body);
      case "offer":
        return this.#verify(frame.body);
      case "status":
        this.status = frame.body;
        return this.#changed();
      case "goodbye":
        return this.close(`the provider left: ${frame.body.reason}`);
      case "start":
      case "tokens":
      case "end":
      case "error":
      case "counted":
      case "checkpoint":
      case "receipt":
      case "traced":
      case "embedded":
        return this.#toStream(frame, bytes);
      default:
        return this.close(`a provider does not send ${frame.type} frames`);
    }
  }

  #toStream(frame: AnswerFrame, bytes: number): void {
    try {
      this.#streams.deliver(frame, bytes);
    } catch (error) {
      this.close(toSkeinError(error).message);
    }
  }

  #verify(envelope: SignedEnvelope): void {
    this.#verifying = this.#verifying.then(async () => {
      try {
        const offer = await openOffer(envelope, { nowMs: this.#deps.clock.nowMs() });
        if (offer.providerId !== this.providerId) {
          throw new SkeinError("invalid_signature", "The offer is somebody else's.");
        }
        if (this.offer !== null && offer.sequence <= this.offer.sequence) return;
        this.offer = offer;
        this.#changed();
      } catch (error) {
        this.close(`bad offer: ${toSkeinError(error).message}`);
      }
    });
  }

  #watchExpiry(): void {
    this.#cancelExpiry = this.#deps.clock.schedule(expiryCheckMs, () => {
      if (this.offer !== null && this.offer.expiresAtMs <= this.#deps.clock.nowMs()) {
        this.offer = null;
        this.#changed();
      }
      this.#watchExpiry();
    });
  }

  generate(
    request: GenerateRequest,
    signal: AbortSignal,
    sink: Sink<GenerateEvent>,
    onLate: ((event: GenerateEvent) => void) | null = null,
  ): Promise<void> {
    const wantsReceipt = request.terms !== undefined;
    const checker = new EventChecker(request);
    let isEnded = false;
    const ask = { type: "generate", body: request } as const;
    const onCut = (stream: RequestStream): void => {
      if (onLate !== null && wantsReceipt) this.#listenOn(stream, checker, onLate);
    };
    const take = (stream: RequestStream, frame: AnswerFrame, bytes: number): ReturnType<TakeFrame> => {
      if (frame.type === "error") throw failureError(frame.body);
      const event = this.#check(checker, stream, frame);
      isEnded ||= event.type === "end";
      const read = (): undefined => {
        if (isEnded && (event.type === "receipt" || !wantsReceipt)) stream.finish();
        else if (event.type === "tokens") this.#grant(stream, bytes);
      };
      const room = sink(event);
      return room === undefined ? read() : room.then(read);
    };
    return this.#exchange(ask, { signal, wantsReceipt, onCut }, take);
  }

  /** The provider signs for what it sent until it heard of the cancellation: that, and its receipt. */
  #listenOn(stream: RequestStream, checker: EventChecker, onLate: (event: GenerateEvent) => void): void {
    // What credit let the provider send, and a checkpoint behind some of it.
    let left = 2 * creditEvents;
    const hear = (frame: AnswerFrame): void => {
      if (left-- <= 0) return stop();
      try {
        const event = checker.check(frame);
        onLate(event);
        if (event.type === "receipt") stop();
      } catch {
        // Nobody relies on it.
        stop();
      }
    };
    const stop = (): void => {
      cancel();
      left = 0;
      this.#streams.listenNoMore(stream);
    };
    const cancel = this.#deps.clock.schedule(lateReceiptMs, stop);
    this.#streams.listenOn(stream, hear);
    for (const frame of stream.leftover) hear(frame);
  }

  #grant(stream: RequestStream, bytes: number): void {
    const events = stream.credit(bytes);
    if (events > 0) this.#writer.write({ type: "credit", stream: stream.id, body: { events } });
  }

  #check(checker: EventChecker, stream: RequestStream, frame: AnswerFrame): GenerateEvent {
    try {
      return checker.check(frame);
    } catch (error) {
      // Its own fault: it is not only told that the session is over.
      stream.abort(error);
      this.close(toSkeinError(error).message);
      throw error;
    }
  }

  async countPromptTokens(modelId: string, prompt: Prompt, signal: AbortSignal): Promise<number> {
    const ask = { type: "count", body: { modelId, prompt } } as const;
    return (await this.#ask(ask, "counted", signal)).promptTokens;
  }

  trace(request: TraceRequest, signal: AbortSignal): Promise<Traced> {
    return this.#ask({ type: "trace", body: request }, "traced", signal);
  }

  async embed(request: EmbedRequest, signal: AbortSignal): Promise<Embedded> {
    const embedded = await this.#ask({ type: "embed", body: request }, "embedded", signal);
    checkVectors(request, embedded);
    return embedded;
  }

  /** One frame there, one back. */
  async #ask<T extends keyof Replies>(
    request: Question,
    expected: T,
    signal: AbortSignal,
  ): Promise<Replies[T]> {
    const reply = Promise.withResolvers<Replies[T]>();
    await this.#exchange(request, { signal, wantsReceipt: false }, (stream, frame) => {
      if (frame.type === "error") throw failureError(frame.body);
      if (frame.type !== expected) {
        throw new SkeinError("protocol_violation", `Expected ${expected}, not ${frame.type}.`);
      }
      reply.resolve(frame.body as Replies[T]);
      stream.finish();
      return undefined;
    });
    return reply.promise;
  }

  /** Sends a request, and hands on what comes for it until `take` finishes the stream. */
  async #exchange(
    request: Question,
    { signal, wantsReceipt, onCut }: ExchangeOptions,
    take: (stream: RequestStream, ...frame: Parameters<TakeFrame>) => ReturnType<TakeFrame>,
  ): Promise<void> {
    if (this.closed) throw disconnected(this.#closeReason);
    throwIfAborted(signal);
    const stream = this.#streams.open(wantsReceipt, (frame, bytes) => take(stream, frame, bytes));
    const onAbort = (): void => stream.abort(abortError(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    let isSent = false;
    try {
      this.#writer.writeRequest({ ...request, stream: stream.id });
      isSent = true;
      await stream.over;
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#streams.close(stream);
      if (isSent && !stream.ended && !this.closed) {
        this.#writer.write({ type: "cancel", stream: stream.id, body: {} });
        onCut?.(stream);
      }
    }
  }

  #changed(): void {
    for (const listener of this.#changeListeners) listener();
  }

  onChange(listener: () => void): void {
    this.#changeListeners.push(listener);
  }

  onClose(listener: (reason: string) => void): void {
    if (this.closed) listener(this.#closeReason);
    else this.#closeListeners.push(listener);
  }

  close(reason: string): void {
    if (this.closed) return;
    this.#writer.end({ type: "goodbye", body: { reason: reason.slice(0, 1000) } });
    this.#onClosed(reason);
    this.#connection.close(reason);
  }

  #onClosed(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.#closeReason = reason;
    this.#heartbeat.stop();
    this.#cancelExpiry();
    this.#streams.failAll(disconnected(reason));
    for (const listener of this.#closeListeners.splice(0)) listener(reason);
  }
}

/** @throws SkeinError `protocol_violation` unless there is a vector for each input, all of the size that was asked for */
function checkVectors({ inputs, dimensions }: EmbedRequest, { vectors }: Embedded): void {
  const bytes = dimensions === null ? vectors[0]!.length : 4 * dimensions;
  if (bytes > 0 && vectors.length === inputs.length && vectors.every(({ length }) => length === bytes))
    return;
  throw new SkeinError("protocol_violation", "Vectors of another number or size than asked for.");
}

function disconnected(reason: string): SkeinError {
  return new SkeinError("provider_disconnected", `The provider is gone: ${reason}.`);
}

function failureError({ code, message, hint, param, retry }: Failure): SkeinError {
  return new SkeinError(isErrorCode(code) ? code : "provider_failed", message, {
    retry,
    ...(hint === null ? {} : { hint }),
    ...(param === null ? {} : { param }),
  });
}
