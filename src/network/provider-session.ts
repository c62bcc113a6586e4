/** The provider's end of a session: answers a gateway's requests under its flow control. */
import type { Frame } from "../protocol/frames.ts";
import type { EmbedRequest } from "../protocol/embed.ts";
import type { GenerateRequest, TraceRequest } from "../protocol/generate.ts";
import type { CountRequest } from "../protocol/messages.ts";
import type { ProviderStatus, SignedEnvelope } from "../protocol/offer.ts";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import { Credit } from "./credit.ts";
import { FrameWriter } from "./frame-writer.ts";
import { greetGateway } from "./handshake.ts";
import { Heartbeat } from "./heartbeat.ts";
import type { Connection } from "./port.ts";
import {
  creditBytes,
  creditEvents,
  type GatewaySession,
  type RequestHandler,
  type SessionDeps,
  streamsMax,
} from "./session.ts";

interface Stream {
  readonly abort: AbortController;
  readonly credit: Credit;
  /** The last frame of the answer was sent: whatever happens now is nobody else's business. */
  ended: boolean;
}

/** Completes the handshake with a gateway. @throws SkeinError `join_refused`, `connection_failed` */
export async function openGatewaySession(
  deps: SessionDeps,
  connection: Connection,
  options: { providerId: string; token: string | null; software: string },
  handler: RequestHandler,
): Promise<GatewaySession> {
  const { reader } = await greetGateway(deps, connection, options);
  const session = new ProviderSideSession(deps, connection, handler);
  reader.handOver((frame) => session.receive(frame));
  session.start();
  return session;
}

class ProviderSideSession implements GatewaySession {
  closed = false;
  readonly gatewayId: string;
  readonly remoteAddress: string;
  readonly #connection: Connection;
  readonly #handler: RequestHandler;
  readonly #writer: FrameWriter;
  readonly #heartbeat: Heartbeat;
  readonly #streams = new Map<number, Stream>();
  readonly #deps: SessionDeps;
  #closeListeners: ((reason: string) => void)[] = [];
  #closeReason = "";

  constructor(deps: SessionDeps, connection: Connection, handler: RequestHandler) {
    this.#deps = deps;
    this.#connection = connection;
    this.#handler = handler;
    this.gatewayId = connection.peerId;
    this.remoteAddress = connection.remoteAddress;
    this.#writer = new FrameWriter(deps.clock, connection);
    this.#heartbeat = new Heartbeat(deps, connection.peerId, {
      ping: (id) => void this.#writer.write({ type: "ping", body: { id } }),
      lost: (reason) => this.close(reason),
    });
  }

  start(): void {
    this.#connection.onClose((reason) => this.#onClosed(reason));
    this.#connection.onActivity(() => this.#heartbeat.heard());
    this.#heartbeat.start();
  }

  receive(frame: Frame): void {
    switch (frame.type) {
      case "ping":
        return void this.#writer.write({ type: "pong", body: this.#heartbeat.answer(frame.body) });
      case "pong":
        return this.#heartbeat.pong(frame.body);
      case "goodbye":
        return this.close(`the gateway left: ${frame.body.reason}`);
      case "generate":
        return void this.#answer(frame.stream, (stream) => this.#generate(frame.stream, frame.body, stream));
      case "count":
        return void this.#answer(frame.stream, (stream) => this.#count(frame.stream, frame.body, stream));
      case "trace":
        return void this.#answer(frame.stream, (stream) => this.#trace(frame.stream, frame.body, stream));
      case "embed":
        return void this.#answer(frame.stream, (stream) => this.#embed(frame.stream, frame.body, stream));
      case "cancel":
        return this.#streams.get(frame.stream)?.abort.abort();
      case "credit":
        return this.#streams.get(frame.stream)?.credit.grant(frame.body.events);
      default:
        return this.close(`a gateway does not send ${frame.type} frames`);
    }
  }

  /** Runs one request from its first frame to its last; whatever goes wrong becomes an error frame. */
  async #answer(id: number, run: (stream: Stream) => Promise<void>): Promise<void> {
    const credit = new Credit(creditEvents, creditBytes);
    const stream: Stream = { abort: new AbortController(), credit, ended: false };
    try {
      if (this.#streams.has(id)) return this.close(`stream ${id} was opened twice`);
      if (this.#streams.size >= streamsMax) {
        throw new SkeinError("overloaded", `${streamsMax} requests are open at this provider.`);
      }
      this.#streams.set(id, stream);
      await run(stream);
    } catch (error) {
      // Cancelled by the gateway: it no longer listens. Cut by the deadline: it must hear of it.
      const { aborted, reason } = stream.abort.signal;
      if (!stream.ended && (!aborted || reason instanceof SkeinError))
        this.#sendError(id, toSkeinError(error, "provider_failed"));
    } finally {
      if (this.#streams.get(id) === stream) this.#streams.delete(id);
    }
  }

  /** Ends what takes longer than the gateway waits. Returns a function that forgets it. */
  #bound({ abort }: Stream, timeoutMs: number): () => void {
    return this.#deps.clock.schedule(timeoutMs, () =>
      abort.abort(new SkeinError("deadline_exceeded", `The answer took longer than ${timeoutMs} ms.`)),
    );
  }

  async #generate(id: number, request: GenerateRequest, stream: Stream): Promise<void> {
    const { signal } = stream.abort;
    const cancelTimeout = this.#bound(stream, request.timeoutMs);
    try {
      let isFirst = true;
      let isAnswered = false;
      for await (const event of this.#handler.generate(request, signal)) {
        if (stream.ended) continue;
        if (event.type === "tokens") {
          await stream.credit.available(signal);
          // Once it is cancelled the engine ends at its next step: what it delivers until then has its receipt still to come.
          const frame: Frame = { ...event, stream: id, tokenIds: [...event.tokenIds] };
          stream.credit.spend(this.#writer.write(frame, isFirst ? "now" : "soon"));
          isFirst = false;
        } else {
          const { type, ...body } = event;
          // A short prompt's first token follows at once.
          this.#writer.write({ type, stream: id, body } as Frame, type === "start" ? "later" : "soon");
          isAnswered ||= type === "end";
          stream.ended = isAnswered && (type === "receipt" || request.terms === undefined);
        }
      }
    } finally {
      cancelTimeout();
    }
  }

  async #count(id: number, { modelId, prompt }: CountRequest, stream: Stream): Promise<void> {
    const promptTokens = await this.#handler.countPromptTokens(modelId, prompt, stream.abort.signal);
    this.#writer.write({ type: "counted", stream: id, body: { promptTokens } });
  }

  async #trace(id: number, request: TraceRequest, stream: Stream): Promise<void> {
    if (this.#handler.trace === undefined) {
      throw new SkeinError("invalid_request", "This provider gives no traces.", { retry: "never" });
    }
    const body = await this.#handler.trace(request, stream.abort.signal);
    this.#writer.write({ type: "traced", stream: id, body });
  }

  async #embed(id: number, request: EmbedRequest, stream: Stream): Promise<void> {
    if (this.#handler.embed === undefined) {
      throw new SkeinError("invalid_request", "This provider makes no embeddings.", { retry: "never" });
    }
    const cancelTimeout = this.#bound(stream, request.timeoutMs);
    try {
      const body = await this.#handler.embed(request, stream.abort.signal);
      this.#writer.write({ type: "embedded", stream: id, body });
    } finally {
      cancelTimeout();
    }
  }

  #sendError(id: number, error: SkeinError): void {
    this.#writer.write({
      type: "error",
      stream: id,
      body: {
        code: error.code,
        message: error.message.slice(0, 1000),
        hint: error.hint?.slice(0, 1000) ?? null,
        param: error.param?.slice(0, 200) ?? null,
        retry: error.retry,
      },
    });
  }

  sendOffer(envelope: SignedEnvelope): void {
    if (!this.closed) this.#writer.write({ type: "offer", body: envelope });
  }

  sendStatus(status: ProviderStatus): void {
    if (!this.closed)
      this.#writer.write({ type: "status", body: { ...status, reason: status.reason.slice(0, 1000) } });
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
    for (const { abort } of this.#streams.values()) abort.abort();
    this.#streams.clear();
    for (const listener of this.#closeListeners.splice(0)) listener(reason);
  }
}
