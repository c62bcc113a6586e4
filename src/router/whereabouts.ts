/** A party's own network coordinate, learnt from the round trips that it measures and what the peers tell of theirs. */
import type { NetworkCoordinate } from "../protocol/coordinate.ts";
import type { CoordinateRecord, Whereabouts } from "../network/session.ts";
import type { Random } from "../util/random.ts";
import { distanceMs, firstCoordinate, moved, relativeError } from "./coordinates.ts";

/** Round trips of a peer of which the median counts: one late packet moves nothing (Ledlie et al. 2007). */
const samplesMax = 3;
/** A coordinate that is wrong by more says nothing yet. */
const usableErrorMax = 0.8;
/** Between two that are sure of themselves: a prediction off by more than this, and by this share, contradicts. */
const contradictionMinMs = 100;
const contradictionShare = 0.5;
const sureErrorMax = 0.4;
/** Whose coordinate contradicted more than this share of the measurements has no estimate any more. */
const contradictedShareMax = 0.25;
/** Peers remembered, also those that left: the one that is longest known is forgotten first. */
const peersMax = 10_000;
/** An estimate is taken for longer by at least this share of it. */
const uncertaintyMin = 0.2;

interface Peer {
  samples: number[];
  /** Whether it is connected. */
  isHere: boolean;
  /** Whether its latest coordinate contradicts what was measured. */
  contradicts: boolean;
  contradictions: number;
  measurements: number;
}

export class OwnWhereabouts implements Whereabouts {
  readonly #random: Random;
  readonly #peers = new Map<string, Peer>();
  #own: NetworkCoordinate = firstCoordinate;
  /** Connected peers of which something was measured, and those of them that contradict. */
  #here = 0;
  #contradicting = 0;

  constructor({ random }: { readonly random: Random }) {
    this.#random = random;
  }

  get coordinate(): NetworkCoordinate {
    return this.#own;
  }

  /**
   * A coordinate that contradicts the measurement moves nothing, unless more than half of the connected peers contradict:
   * then it is the own one that is wrong.
   */
  learn(peerId: string, roundTripMs: number, theirs: NetworkCoordinate): void {
    if (!(roundTripMs > 0) || !Number.isFinite(roundTripMs)) return;
    const peer = this.#peerOf(peerId);
    peer.samples = [...peer.samples, roundTripMs].slice(-samplesMax);
    // The first packets of a connection are late.
    if (peer.samples.length < samplesMax) return;
    const measuredMs = peer.samples.toSorted((a, b) => a - b)[Math.floor(samplesMax / 2)]!;
    this.#judge(peer, this.#contradicts(theirs, measuredMs));
    if (peer.contradicts && this.#contradicting * 2 <= this.#here) return;
    this.#own = moved(this.#own, theirs, measuredMs, this.#random);
  }

  left(peerId: string): void {
    const peer = this.#peers.get(peerId);
    if (peer === undefined || !peer.isHere) return;
    this.#here -= 1;
    if (peer.contradicts) this.#contradicting -= 1;
    peer.isHere = peer.contradicts = false;
    peer.samples = [];
  }

  /**
   * The round trip to a peer that was not measured yet, uncertainty included; null: its coordinate or the own one says
   * too little, or it contradicted a measurement before.
   */
  estimateMs(peerId: string, theirs: NetworkCoordinate): number | null {
    if (this.#own.error > usableErrorMax || theirs.error > usableErrorMax) return null;
    const { contradictions, measurements } = this.recordOf(peerId);
    if (contradictions > contradictedShareMax * measurements) return null;
    // What it says of its own error may be a lie.
    const uncertainty = Math.max(uncertaintyMin, this.#own.error, theirs.error);
    return distanceMs(this.#own, theirs) * (1 + uncertainty);
  }

  recordOf(peerId: string): CoordinateRecord {
    const { contradictions = 0, measurements = 0 } = this.#peers.get(peerId) ?? {};
    return { contradictions, measurements };
  }

  #contradicts(theirs: NetworkCoordinate, measuredMs: number): boolean {
    if (Math.max(this.#own.error, theirs.error) > sureErrorMax) return false;
    const predictedMs = distanceMs(this.#own, theirs);
    return (
      Math.abs(predictedMs - measuredMs) > contradictionMinMs &&
      relativeError(predictedMs, measuredMs) > contradictionShare
    );
  }

  #judge(peer: Peer, contradicts: boolean): void {
    this.#contradicting += Number(contradicts) - Number(peer.contradicts);
    peer.contradicts = contradicts;
    peer.measurements += 1;
    if (contradicts) peer.contradictions += 1;
  }

  #peerOf(peerId: string): Peer {
    let peer = this.#peers.get(peerId);
    if (peer === undefined) {
      peer = { samples: [], isHere: false, contradicts: false, contradictions: 0, measurements: 0 };
      if (this.#peers.size >= peersMax) this.#forgetOldest();
      this.#peers.set(peerId, peer);
    }
    if (!peer.isHere) {
      peer.isHere = true;
      this.#here += 1;
    }
    return peer;
  }

  #forgetOldest(): void {
    const oldest = this.#peers.keys().next().value!;
    this.left(oldest);
    this.#peers.delete(oldest);
  }
}
