/** The first messages of a session: versions, roles, and the mutual proof of the join token. */
import { decodeFrame, encodeFrame, type Frame } from "../protocol/frames.ts";
import { checkJoinProof, joinProof, type JoinFacts, nonceBytes } from "../protocol/join-proof.ts";
import { type Hello, protocolVersion } from "../protocol/messages.ts";
import { SkeinError } from "../util/errors.ts";
import { type Connection, frameBytesMax } from "./port.ts";
import { handshakeTimeoutMs, type JoinPolicy, type SessionDeps } from "./session.ts";

/** Frames of a handshake and whatever an eager peer sends right behind it. */
const handshakeFramesMax = 64;
/** Their bytes: a gateway may send its largest request right behind the welcome, before that was checked. */
const handshakeBytesMax: number = 2 * frameBytesMax;

/** @param bytes length of the encoded frame */
type FrameListener = (frame: Frame, bytes: number) => void;

/** Reads frames one by one during the handshake, with a deadline for all of it. */
class HandshakeReader {
  readonly #connection: Connection;
  readonly #cancelTimer: () => void;
  #queued: { readonly frame: Frame; readonly bytes: number }[] = [];
  #queuedBytes = 0;
  #failure: unknown = null;
  #wake: () => void = () => undefined;
  #listener: FrameListener | null = null;

  constructor(deps: SessionDeps, connection: Connection) {
    this.#connection = connection;
    connection.onFrame((bytes) => {
      try {
        const frame = decodeFrame(bytes);
        if (this.#listener === null) this.#queue(frame, bytes.length);
        else this.#listener(frame, bytes.length);
      } catch (error) {
        this.#fail(error);
        connection.close(error instanceof Error ? error.message : "protocol violation");
      }
    });
    connection.onClose((reason) => this.#fail(new SkeinError("connection_failed", `Not joined: ${reason}.`)));
    this.#cancelTimer = deps.clock.schedule(handshakeTimeoutMs, () => {
      this.#fail(new SkeinError("connection_failed", "The peer did not complete the handshake in time."));
    });
  }

  #queue(frame: Frame, bytes: number): void {
    this.#queuedBytes += bytes;
    if (this.#queued.length >= handshakeFramesMax || this.#queuedBytes > handshakeBytesMax) {
      throw new SkeinError("protocol_violation", "The peer sent too much during the handshake.");
    }
    // What follows a welcome may be a request, and may be here before the welcome was looked at.
    if (frame.type === "welcome") this.#connection.allowLargeFrames();
    this.#queued.push({ frame, bytes });
    this.#wake();
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#wake();
  }

  async next(): Promise<Frame> {
    for (;;) {
      const next = this.#queued.shift();
      if (next !== undefined) {
        this.#queuedBytes -= next.bytes;
        return next.frame;
      }
      if (this.#failure !== null) throw this.#failure;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** The handshake is over: frames go to the session, those first that came right behind it. */
  handOver(listener: FrameListener): void {
    this.#cancelTimer();
    this.#connection.allowLargeFrames();
    this.#listener = listener;
    for (const { frame, bytes } of this.#queued.splice(0)) listener(frame, bytes);
  }

  stop(): void {
    this.#cancelTimer();
  }
}

export type Established = { readonly reader: Pick<HandshakeReader, "handOver"> };

function hello(deps: SessionDeps, role: Hello["role"], software: string): Hello {
  return { version: protocolVersion, role, nonce: deps.random.bytes(nonceBytes), software };
}

function checkHello(frame: Frame, role: Hello["role"]): Hello {
  if (frame.type === "refused") throw new SkeinError("join_refused", frame.body.reason);
  if (frame.type !== "hello")
    throw new SkeinError("protocol_violation", `Expected hello, not ${frame.type}.`);
  if (frame.body.version !== protocolVersion) {
    throw new SkeinError(
      "join_refused",
      `The peer speaks protocol ${frame.body.version}; this is ${protocolVersion}.`,
      {
        hint: "Update the older of the two.",
      },
    );
  }
  if (frame.body.role !== role) throw new SkeinError("join_refused", `The peer is not a ${role}.`);
  return frame.body;
}

/** The gateway's side. @throws SkeinError after telling the peer why */
export async function greetProvider(
  deps: SessionDeps,
  connection: Connection,
  options: { gatewayId: string; policy: JoinPolicy; software: string },
): Promise<Established> {
  const reader = new HandshakeReader(deps, connection);
  try {
    // 1. Both say hello.
    const theirs = checkHello(await reader.next(), "provider");
    const ours = hello(deps, "gateway", options.software);
    connection.send(encodeFrame({ type: "hello", body: ours }));
    const facts: JoinFacts = {
      gatewayId: options.gatewayId,
      providerId: connection.peerId,
      gatewayNonce: ours.nonce,
      providerNonce: theirs.nonce,
    };
    // 2. The provider proves the token, if it has one.
    const frame = await reader.next();
    if (frame.type !== "proof")
      throw new SkeinError("protocol_violation", `Expected proof, not ${frame.type}.`);
    await admit(options.policy, facts, frame.body.proof);
    // 3. The gateway proves it too.
    const token = options.policy.kind === "restricted" ? options.policy.token : null;
    const proof = token === null ? null : await joinProof(token, "gateway", facts);
    connection.allowLargeFrames();
    connection.send(encodeFrame({ type: "welcome", body: { proof } }));
    return { reader };
  } catch (error) {
    reader.stop();
    refuse(connection, error);
    throw error;
  }
}

async function admit(policy: JoinPolicy, facts: JoinFacts, proof: Uint8Array | null): Promise<void> {
  if (policy.kind === "open" || policy.allow.includes(facts.providerId)) return;
  if (policy.token === null) {
    throw new SkeinError(
      "join_refused",
      `This gateway takes only listed providers, and ${facts.providerId} is not among them.`,
    );
  }
  if (proof === null) {
    throw new SkeinError("join_refused", "This gateway takes only providers with a join token.", {
      hint: "Ask its operator for the token and pass it with --token.",
    });
  }
  if (!(await checkJoinProof(policy.token, "provider", facts, proof))) {
    throw new SkeinError("join_refused", "The join token is not this gateway's.", {
      hint: "Check the token for typing errors, or ask its operator for the current one.",
    });
  }
}

/** The provider's side. @throws SkeinError `join_refused` with the gateway's reason */
export async function greetGateway(
  deps: SessionDeps,
  connection: Connection,
  options: { providerId: string; token: string | null; software: string },
): Promise<Established> {
  const reader = new HandshakeReader(deps, connection);
  try {
    // 1. Both say hello.
    const ours = hello(deps, "provider", options.software);
    connection.send(encodeFrame({ type: "hello", body: ours }));
    const theirs = checkHello(await reader.next(), "gateway");
    const facts: JoinFacts = {
      gatewayId: connection.peerId,
      providerId: options.providerId,
      gatewayNonce: theirs.nonce,
      providerNonce: ours.nonce,
    };
    // 2. Prove the token without sending it.
    const proof = options.token === null ? null : await joinProof(options.token, "provider", facts);
    connection.send(encodeFrame({ type: "proof", body: { proof } }));
    // 3. A gateway that does not know our token is not the one that the token is for.
    const frame = await reader.next();
    if (frame.type === "refused") throw new SkeinError("join_refused", frame.body.reason);
    if (frame.type !== "welcome")
      throw new SkeinError("protocol_violation", `Expected welcome, not ${frame.type}.`);
    if (options.token !== null) await expectProof(options.token, facts, frame.body.proof);
    return { reader };
  } catch (error) {
    reader.stop();
    connection.close("the handshake failed");
    throw error;
  }
}

async function expectProof(token: string, facts: JoinFacts, proof: Uint8Array | null): Promise<void> {
  if (proof !== null && (await checkJoinProof(token, "gateway", facts, proof))) return;
  throw new SkeinError(
    "join_refused",
    "The gateway does not know the join token: it is open, or not the one you meant.",
    {
      hint: "Leave --token away to join an open gateway.",
    },
  );
}

function refuse(connection: Connection, error: unknown): void {
  const reason = error instanceof SkeinError ? error.text : "internal error";
  try {
    connection.send(encodeFrame({ type: "refused", body: { reason: reason.slice(0, 1000) } }));
  } catch {
    // Already closed; there is nobody to tell.
  }
  connection.close(reason);
}
