/** A party's own network coordinate, learnt from the round trips that it measures and what the peers tell of theirs. */
import type { CoordinateRecord, Whereabouts } from "../network/session.ts";
import type { NetworkCoordinate } from "../protocol/coordinate.ts";
import type { Random } from "../util/random.ts";
import { distanceMs, firstCoordinate, moved, relativeError } from "./coordinates.ts";

/** Round trips of a peer of which the median counts: one late packet moves nothing (Ledlie et al. 2007). */
const samplesMax = 3;
/** A coordinate that is wrong by more says nothing yet. */
const usableErrorMax = 0.8;
/** A prediction contradicts that is off by more than this, by this share of what was measured… */
const contradictionMinMs = 100;
const contradictionShare = 0.5;
/** …and by so many times what is usual here. */
const contradictionFactor = 3;
/** What is usual grows by this factor with each prediction that is worse, and falls with each that is better: the median. */
const usualStep = 1.1;
const usualMinMs = 1;
const usualMaxMs = 1_000;
/** The nearest peer may leave, or move: the shortest round trip is forgotten by this factor with each measurement. */
const nearestFading = 1.001;
/** Who says itself that it is wrong by more does not lie. */
const sureErrorMax = 0.4;
/** Whose coordinate contradicted more than this share of the measurements has no estimate any more. */
const contradictedShareMax = 0.25;
/** Peers remembered, also those that left: the one that is longest known is forgotten first. */
const peersMax = 50_000;
/** An estimate is taken for longer by at least this share of it. */
const uncertaintyMin = 0.2;

interface Peer {
  samplesMs: readonly number[];
  contradictions: number;
  measurements: number;
}

export class OwnWhereabouts implements Whereabouts {
  readonly #random: Random;
  readonly #peers = new Map<string, Peer>();
  #own: NetworkCoordinate = firstCoordinate;
  #usualMs: number = usualMaxMs;
  #nearestMs: number = Number.POSITIVE_INFINITY;

  constructor({ random }: { readonly random: Random }) {
    this.#random = random;
  }

  get coordinate(): NetworkCoordinate {
    return this.#own;
  }

  /**
   * A coordinate that contradicts the measurement moves nothing. Where those of most measurements do, what is usual rises
   * until they count: then it is the own one that is wrong.
   */
  learn(peerId: string, roundTripMs: number, theirs: NetworkCoordinate): void {
    if (!(roundTripMs > 0) || !Number.isFinite(roundTripMs)) return;
    const peer = this.#peerOf(peerId);
    peer.samplesMs = [...peer.samplesMs, roundTripMs].slice(-samplesMax);
    // The first packets of a connection are late.
    if (peer.samplesMs.length < samplesMax) return;
    const measuredMs = peer.samplesMs.toSorted((a, b) => a - b)[Math.floor(samplesMax / 2)]!;
    const contradicts = this.#contradicts(theirs, measuredMs);
    peer.measurements += 1;
    if (contradicts && theirs.error <= sureErrorMax) peer.contradictions += 1;
    if (!contradicts) this.#own = moved(this.#own, theirs, measuredMs, this.#random);
    // The own line is in every round trip: it cannot be longer than the shortest, whatever somebody tells.
    this.#nearestMs = Math.min(this.#nearestMs * nearestFading, measuredMs);
    if (this.#own.heightMs > this.#nearestMs) this.#own = { ...this.#own, heightMs: this.#nearestMs };
  }

  /**
   * The round trip to a peer that was not measured yet, uncertainty included; null: its coordinate or the own one says
   * too little, or it contradicted measurements before.
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
    const predictedMs = distanceMs(this.#own, theirs);
    const offMs = Math.abs(predictedMs - measuredMs);
    const allowedMs = Math.max(contradictionMinMs, contradictionFactor * this.#usualMs);
    const step = offMs > this.#usualMs ? usualStep : 1 / usualStep;
    this.#usualMs = Math.min(usualMaxMs, Math.max(usualMinMs, this.#usualMs * step));
    return offMs > allowedMs && relativeError(predictedMs, measuredMs) > contradictionShare;
  }

  #peerOf(peerId: string): Peer {
    let peer = this.#peers.get(peerId);
    if (peer === undefined) {
      peer = { samplesMs: [], contradictions: 0, measurements: 0 };
      if (this.#peers.size >= peersMax) this.#peers.delete(this.#peers.keys().next().value!);
      this.#peers.set(peerId, peer);
    }
    return peer;
  }
}
