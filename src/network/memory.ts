/** Network inside one process, for tests and the simulator: same contract, no sockets. */
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import {
  type Connection,
  earlyFramesMax,
  frameBytesMax,
  gossipBytesMax,
  handshakeFrameBytesMax,
  type Network,
  type PeerAddress,
} from "./port.ts";

/** Bytes on their way before `send` asks to wait. */
const bufferedBytesLow = 256 * 1024;
/** Bytes on their way before a sender that does not wait is cut off. */
const bufferedBytesMax: number = 4 * frameBytesMax;

/** What all memory networks of one test share. */
export class MemoryHub {
  readonly peers = new Map<string, MemoryNetwork>();
  readonly #delayMs: (from: string, to: string) => number;
  readonly #clock: Clock | null;
  /** Told of every frame that is sent. */
  readonly onSend: (from: string, to: string, frame: Uint8Array) => void;

  /** `delayMs`: one way, asked for whatever is sent. Without a clock time is real. */
  constructor(
    options: {
      delayMs?: (from: string, to: string) => number;
      clock?: Clock;
      onSend?: (from: string, to: string, frame: Uint8Array) => void;
    } = {},
  ) {
    this.#delayMs = options.delayMs ?? ((): number => 0);
    this.onSend = options.onSend ?? ((): void => undefined);
    this.#clock = options.clock ?? null;
  }

  /**
   * Calls back when what is sent now has arrived; returns when that is. Nothing overtakes what arrives at
   * `notBeforeMs`.
   */
  later(from: string, to: string, notBeforeMs: number, callback: () => void): number {
    const delayMs = this.#delayMs(from, to);
    const nowMs = this.#clock?.monotonicMs() ?? performance.now();
    const dueMs = Math.max(notBeforeMs, nowMs + delayMs);
    // Real timers keep the process alive while something is on its way.
    if (this.#clock === null) setTimeout(callback, dueMs - nowMs);
    else this.#clock.schedule(dueMs - nowMs, callback);
    return dueMs;
  }

  create(peerId: string): MemoryNetwork {
    const network = new MemoryNetwork(this, peerId);
    this.peers.set(peerId, network);
    return network;
  }
}

class MemoryNetwork implements Network {
  readonly peerId: string;
  readonly #hub: MemoryHub;
  readonly #topics = new Map<string, Set<(data: Uint8Array, from: string) => void>>();
  readonly #connections = new Set<MemoryConnection>();
  #handler: ((connection: Connection) => void) | null = null;
  #closed = false;

  constructor(hub: MemoryHub, peerId: string) {
    this.#hub = hub;
    this.peerId = peerId;
  }

  addresses(): readonly string[] {
    return [`/memory/${this.peerId}/p2p/${this.peerId}`];
  }

  async dial(address: string, signal: AbortSignal): Promise<Connection> {
    const target = this.#hub.peers.get(address.split("/p2p/")[1] ?? "");
    await Promise.resolve();
    if (signal.aborted) throw new SkeinError("connection_failed", "The attempt to connect was given up.");
    if (target === undefined || target.#closed || target.#handler === null) {
      throw new SkeinError("connection_failed", `Nobody answers at ${address}.`);
    }
    const [here, there] = connectedPair(this.#hub, this.peerId, target.peerId);
    this.#keep(here);
    target.#keep(there);
    target.#handler(there);
    return here;
  }

  async connect(address: string, _signal: AbortSignal): Promise<void> {
    if (this.#hub.peers.has(address.split("/p2p/")[1] ?? "")) return;
    throw new SkeinError("connection_failed", `Nobody answers at ${address}.`);
  }

  #keep(connection: MemoryConnection): void {
    this.#connections.add(connection);
    connection.onClose(() => this.#connections.delete(connection));
  }

  onConnection(handler: (connection: Connection) => void): void {
    this.#handler = handler;
  }

  async publish(topic: string, data: Uint8Array): Promise<void> {
    if (data.length > gossipBytesMax) throw new SkeinError("protocol_violation", "The gossip is too large.");
    for (const peer of this.#hub.peers.values()) {
      if (peer !== this && !peer.#closed) peer.#deliver(topic, data, this.peerId);
    }
  }

  #deliver(topic: string, data: Uint8Array, from: string): void {
    for (const listener of this.#topics.get(topic) ?? []) {
      queueMicrotask(() => listener(data.slice(), from));
    }
  }

  subscribe(topic: string, listener: (data: Uint8Array, from: string) => void): () => void {
    const listeners = this.#topics.get(topic) ?? new Set();
    this.#topics.set(topic, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  onDiscovery(_listener: (peer: PeerAddress) => void): void {
    // Everybody in a hub knows everybody; there is nothing to discover.
  }

  /** Cuts every connection as a pulled cable would be noticed: at once, without a goodbye. */
  cut(): void {
    for (const connection of this.#connections) connection.close("the connection was cut");
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#hub.peers.delete(this.peerId);
    for (const connection of this.#connections) connection.close("the network was closed");
  }
}

function connectedPair(hub: MemoryHub, a: string, b: string): [MemoryConnection, MemoryConnection] {
  const here = new MemoryConnection(hub, a, b);
  const there = new MemoryConnection(hub, b, a);
  here.other = there;
  there.other = here;
  return [here, there];
}

class MemoryConnection implements Connection {
  readonly peerId: string;
  readonly remoteAddress = "memory";
  other!: MemoryConnection;
  readonly #hub: MemoryHub;
  readonly #ownId: string;
  #listener: ((frame: Uint8Array) => void) | null = null;
  #early: Uint8Array[] = [];
  #onActivity: () => void = () => undefined;
  #receivedBytesMax = handshakeFrameBytesMax;
  #inFlight: Uint8Array[] = [];
  #inFlightBytes = 0;
  /** When the last frame arrives. */
  #dueMs = Number.NEGATIVE_INFINITY;
  #waiting: (() => void)[] = [];
  #closeListeners: ((reason: string) => void)[] = [];
  #closeReason: string | null = null;

  constructor(hub: MemoryHub, ownId: string, peerId: string) {
    this.#hub = hub;
    this.#ownId = ownId;
    this.peerId = peerId;
  }

  send(frame: Uint8Array): boolean {
    if (this.#closeReason !== null) {
      throw new SkeinError("connection_failed", `The connection is closed: ${this.#closeReason}.`);
    }
    if (frame.length > frameBytesMax) {
      throw new SkeinError(
        "protocol_violation",
        `A frame has ${frame.length} bytes; ${frameBytesMax} are allowed.`,
      );
    }
    this.#hub.onSend(this.#ownId, this.peerId, frame);
    this.#inFlight.push(frame.slice());
    this.#inFlightBytes += frame.length;
    if (this.#inFlightBytes > bufferedBytesMax) this.close("the peer reads too slowly");
    else this.#move();
    return this.#inFlightBytes < bufferedBytesLow;
  }

  /** The oldest frame arrives one turn of the event loop (or the delay) after it was sent. */
  #move(): void {
    this.#later(() => {
      const frame = this.#inFlight.shift();
      if (frame === undefined) return;
      this.#inFlightBytes -= frame.length;
      if (this.#inFlightBytes < bufferedBytesLow) for (const wake of this.#waiting.splice(0)) wake();
      this.other.#receive(frame);
    });
  }

  #later(callback: () => void): void {
    this.#dueMs = this.#hub.later(this.#ownId, this.peerId, this.#dueMs, callback);
  }

  #receive(frame: Uint8Array): void {
    if (this.#closeReason !== null) return;
    this.#onActivity();
    if (frame.length > this.#receivedBytesMax) return this.close("the peer sent too large a frame");
    if (this.#listener !== null) return this.#listener(frame);
    if (this.#early.push(frame) > earlyFramesMax) this.close("the peer sent too much before it was asked");
  }

  onActivity(listener: () => void): void {
    this.#onActivity = listener;
  }

  allowLargeFrames(): void {
    this.#receivedBytesMax = frameBytesMax;
  }

  drained(): Promise<void> {
    if (this.#closeReason !== null || this.#inFlightBytes < bufferedBytesLow) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  onFrame(listener: (frame: Uint8Array) => void): void {
    this.#listener = listener;
    for (const frame of this.#early.splice(0)) listener(frame);
  }

  onClose(listener: (reason: string) => void): void {
    if (this.#closeReason === null) this.#closeListeners.push(listener);
    else listener(this.#closeReason);
  }

  close(reason = "closed"): void {
    if (this.#closeReason !== null) return;
    for (const frame of this.#inFlight.splice(0)) this.other.#receive(frame);
    this.#inFlightBytes = 0;
    this.#closeReason = reason;
    for (const wake of this.#waiting.splice(0)) wake();
    for (const listener of this.#closeListeners.splice(0)) listener(reason);
    this.#later(() => this.other.close("the peer closed the connection"));
  }
}
