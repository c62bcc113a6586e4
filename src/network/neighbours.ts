import type { PeerAddress } from "./port.ts";

/** Peers of the local network that are kept for somebody who asks later. */
const keptMax = 256;

/** Peers found on the local network, also before anybody asked for them. */
export class Neighbours {
  readonly #kept = new Map<string, PeerAddress>();
  readonly #listeners: ((peer: PeerAddress) => void)[] = [];

  found(peer: PeerAddress): void {
    if (this.#kept.size < keptMax || this.#kept.has(peer.peerId)) this.#kept.set(peer.peerId, peer);
    for (const listener of this.#listeners) listener(peer);
  }

  onFound(listener: (peer: PeerAddress) => void): void {
    this.#listeners.push(listener);
    for (const peer of this.#kept.values()) listener(peer);
  }
}
