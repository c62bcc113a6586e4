/**
 * The network port: authenticated connections that carry whole frames between peers.
 * Implementations: `memory` (one process, for tests and the simulator) and `libp2p` (TCP, noise, yamux).
 * `network.suite.ts` is the one suite that both pass. Sessions (`session.ts`) are built on top.
 */

export interface Connection {
  /** The remote peer, proved by the handshake: a libp2p peer id (`12D3Koo…`) of an Ed25519 key. */
  readonly peerId: string;
  /** Where the remote peer is, for people: an address or "memory". */
  readonly remoteAddress: string;

  /**
   * Queues one whole frame (at most `frameBytesMax`). Returns false when the peer does not keep up:
   * the frame is still sent, but the caller must `await drained()` before sending more.
   * Throws `connection_failed` after close, and closes the connection rather than let its buffer
   * grow beyond a hard limit.
   */
  send(frame: Uint8Array): boolean;
  /** Resolves when the outgoing buffer is low again, or the connection closed. Never rejects. */
  drained(): Promise<void>;

  /**
   * Whole frames, in order. Set once, directly after the connection was obtained: at most `earlyFramesMax`
   * are kept until then.
   */
  onFrame(listener: (frame: Uint8Array) => void): void;
  /** Called whenever bytes of the peer arrive, also of a frame that is not whole yet. Replaces the one before. */
  onActivity(listener: () => void): void;
  /**
   * Takes frames of up to `frameBytesMax` from now on. Until then, while the peer is a stranger, one of more
   * than `handshakeFrameBytesMax` closes the connection.
   */
  allowLargeFrames(): void;
  /** Called once, with the reason; immediately when already closed. */
  onClose(listener: (reason: string) => void): void;
  /** Sends what is queued if possible, then closes. Idempotent. */
  close(reason?: string): void;
}

export interface PeerAddress {
  readonly peerId: string;
  readonly addresses: readonly string[];
}

export interface Network {
  readonly peerId: string;
  /** Addresses others can dial, each ending in `/p2p/<peerId>`; empty when not listening. */
  addresses(): readonly string[];
  /**
   * Opens a session connection to a peer (one of its addresses; a multiaddr with the peer id).
   * @throws SkeinError `connection_failed` with a reason that a person understands.
   */
  dial(address: string, signal: AbortSignal): Promise<Connection>;
  /** Makes sure of a connection to a peer, for gossip alone. @throws SkeinError `connection_failed` */
  connect(address: string, signal: AbortSignal): Promise<void>;
  /** Sets the handler for incoming session connections. */
  onConnection(handler: (connection: Connection) => void): void;

  /** Gossips `data` to all peers of the topic (at most `gossipBytesMax`); best effort. */
  publish(topic: string, data: Uint8Array): Promise<void>;
  /** `from` is the signed author, not the relaying peer. Returns a function that unsubscribes. */
  subscribe(topic: string, listener: (data: Uint8Array, from: string) => void): () => void;
  /** Peers found on the local network (mDNS) where that is on, each again and again while it is there. */
  onDiscovery(listener: (peer: PeerAddress) => void): void;

  close(): Promise<void>;
}

/** Largest frame: a chat request with a long context fits, a memory bomb does not. */
export const frameBytesMax: number = 4 * 1024 * 1024;
/** Largest frame of a peer that was not let in yet: its messages are a few hundred bytes. */
export const handshakeFrameBytesMax: number = 64 * 1024;
/** Frames that wait for `onFrame`; a peer sends one and waits for the answer. */
export const earlyFramesMax = 64;
export const gossipBytesMax: number = 64 * 1024;
