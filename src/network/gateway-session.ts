/** The gateway's end of a session: verifies offers, watches the heartbeat, multiplexes requests. */
import type { Frame, StreamFrame, TokensFrame } from "../protocol/frames.ts";
import type { GenerateEvent, GenerateRequest, Prompt } from "../protocol/generate.ts";
import type { Failure } from "../protocol/messages.ts";
import type { Offer, ProviderStatus, SignedEnvelope } from "../protocol/offer.ts";
import { openOffer } from "../protocol/signing.ts";
import { isErrorCode, SkeinError, toSkeinError } from "../util/errors.ts";
import { BoundedQueue } from "../util/queue.ts";
import { EventChecker } from "./event-checker.ts";
import { FrameWriter } from "./frame-writer.ts";
import { greetProvider } from "./handshake.ts";
import { Heartbeat } from "./heartbeat.ts";
import type { Connection } from "./port.ts";
import {
  creditEvents,
  type JoinPolicy,
  type ProviderSession,
  type SessionDeps,
  streamsMax,
} from "./session.ts";

/** Reading this many events gives as many back as credit; smaller grants would cost more frames. */
const grantEvents: number = creditEvents / 4;
/** An offer that expired without a renewal is withdrawn within this time. */
const expiryCheckMs = 5_000;

const idleStatus: ProviderStatus = { active: 0, queued: 0, ready: false, reason: "no status yet" };

interface Stream {
  readonly queue: BoundedQueue<Exclude<StreamFrame | TokensFrame, { type: "generate" | "count" }>>;
}

/** Completes the handshake with a provider that connected. @throws SkeinError when it is refused */
export async function acceptProviderSession(
  deps: SessionDeps,
  connection: Connection,
  options: { gatewayId: string; policy: JoinPolicy; software: string },
): Promise<ProviderSession> {
  const { reader } = await greetProvider(deps, connection, options);
  const session = new GatewaySideSession(deps, connection);
  reader.handOver((frame) => session.receive(frame));
  session.start();
  return session;
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
  readonly #streams = new Map<number, Stream>();
  #changeListeners: (() => void)[] = [];
  #closeListeners: ((reason: string) => void)[] = [];
  #closeReason = "";
  #nextStream = 1;
  /** Offers are verified one after another, so that an older one cannot overtake. */
  #verifying: Promise<void> = Promise.resolve();
  #cancelExpiry: () => void = () => undefined;

  constructor(deps: SessionDeps, connection: Connection) {
    this.#deps = deps;
    this.#connection = connection;
    this.providerId = connection.peerId;
    this.remoteAddress = connection.remoteAddress;
    this.#writer = new FrameWriter(connection);
    this.#heartbeat = new Heartbeat(
      deps.clock,
      (id) => this.#writer.write({ type: "ping", body: { id } }),
      () => this.close("no sign of life"),
    );
  }

  get roundTripMs(): number | null {
    return this.#heartbeat.roundTripMs;
  }

  start(): void {
    this.#connection.onClose((reason) => this.#onClosed(reason));
    this.#heartbeat.start();
    this.#watchExpiry();
  }

  receive(frame: Frame): void {
    this.#heartbeat.heard();
    switch (frame.type) {
      case "ping":
        return this.#writer.write({ type: "pong", body: frame.body });
      case "pong":
        return this.#heartbeat.pong(frame.body.id);
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
        return this.#toStream(frame);
      default:
        return this.close(`a provider does not send ${frame.type} frames`);
    }
  }

  #toStream(frame: Exclude<StreamFrame | TokensFrame, { type: "generate" | "count" }>): void {
    // A stream that is gone was cancelled while this frame was on its way.
    const stream = this.#streams.get(frame.stream);
    if (stream === undefined) return;
    try {
      stream.queue.push(frame);
    } catch {
      this.close("the provider ignores the flow control");
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

  async *generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    const { id, stream } = this.#openStream();
    const checker = new EventChecker(request);
    const release = this.#bind(stream, signal);
    let unreported = 0;
    let finished = false;
    try {
      this.#writer.write({ type: "generate", stream: id, body: request }, true);
      for await (const frame of stream.queue) {
        if (frame.type === "error") {
          finished = true;
          throw failureError(frame.body);
        }
        const event = this.#check(checker, frame);
        finished = event.type === "end";
        yield event;
        if (finished) return;
        if (event.type === "tokens" && ++unreported === grantEvents) {
          this.#writer.write({ type: "credit", stream: id, body: { events: unreported } });
          unreported = 0;
        }
      }
    } finally {
      release();
      this.#closeStream(id, finished);
    }
  }

  #check(checker: EventChecker, frame: StreamFrame | TokensFrame): GenerateEvent {
    try {
      return checker.check(frame);
    } catch (error) {
      this.close(toSkeinError(error).message);
      throw error;
    }
  }

  async countPromptTokens(modelId: string, prompt: Prompt, signal: AbortSignal): Promise<number> {
    const { id, stream } = this.#openStream();
    const release = this.#bind(stream, signal);
    let finished = false;
    try {
      this.#writer.write({ type: "count", stream: id, body: { modelId, prompt } });
      for await (const frame of stream.queue) {
        finished = true;
        if (frame.type === "error") throw failureError(frame.body);
        if (frame.type === "counted") return frame.body.promptTokens;
        throw new SkeinError("protocol_violation", `Expected counted, not ${frame.type}.`);
      }
      throw new SkeinError("provider_failed", "The provider gave no answer.");
    } finally {
      release();
      this.#closeStream(id, finished);
    }
  }

  #openStream(): { id: number; stream: Stream } {
    if (this.closed) throw disconnected(this.#closeReason);
    if (this.#streams.size >= streamsMax) {
      throw new SkeinError("overloaded", `${streamsMax} requests are open at this provider.`);
    }
    const id = this.#nextStream;
    this.#nextStream = id === 0xffff_ffff ? 1 : id + 1;
    // Credit bounds the tokens; start, end and error come on top.
    const stream: Stream = { queue: new BoundedQueue(creditEvents + 8) };
    this.#streams.set(id, stream);
    return { id, stream };
  }

  #bind(stream: Stream, signal: AbortSignal): () => void {
    const onAbort = (): void =>
      stream.queue.fail(
        signal.reason instanceof SkeinError
          ? signal.reason
          : new SkeinError("cancelled", "The request was cancelled."),
      );
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    return () => signal.removeEventListener("abort", onAbort);
  }

  #closeStream(id: number, finished: boolean): void {
    this.#streams.delete(id);
    if (!finished && !this.closed) this.#writer.write({ type: "cancel", stream: id, body: {} });
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
    this.#writer.write({ type: "goodbye", body: { reason: reason.slice(0, 1000) } });
    this.#writer.flush();
    this.#onClosed(reason);
    this.#connection.close(reason);
  }

  #onClosed(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    this.#closeReason = reason;
    this.#heartbeat.stop();
    this.#cancelExpiry();
    for (const { queue } of this.#streams.values()) queue.fail(disconnected(reason));
    this.#streams.clear();
    for (const listener of this.#closeListeners.splice(0)) listener(reason);
  }
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
