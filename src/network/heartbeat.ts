import type { Ping, Pong } from "../protocol/messages.ts";
import { heartbeatIntervalMs, heartbeatTimeoutMs, type RoundTripFloor, type SessionDeps } from "./session.ts";

/** Weights of the newest measurement in the smoothed round trip and its deviation (RFC 6298's values). */
const smoothing = 1 / 8;
const deviationSmoothing = 1 / 4;
/** A timer that fires this much late says that this process stood still: nobody could have been heard. */
const lateTimerMs = 500;
/** Pings that may be answered yet. */
const pingsOpenMax = 16;
/** Round trips of which the shortest counts as the floor. */
const floorSamplesMax = 64;
/** Pongs in a row that answer no open ping: answers that came very late are fewer, and more would be guesses. */
const strayPongsMax = 64;

export interface HeartbeatEvents {
  readonly ping: (id: number) => void;
  /** The peer is not there, or does not answer what it is asked. */
  readonly lost: (reason: string) => void;
  /** The first round trip is known. */
  readonly measured?: () => void;
}

type HeartbeatDeps = Pick<SessionDeps, "clock" | "random" | "whereabouts">;

/**
 * Pings at an interval, measures round trips and notices silence. Everything received counts as a sign of
 * life, so a busy session needs no extra traffic to stay alive.
 */
export class Heartbeat {
  roundTripMs: number | null = null;
  /** Smoothed deviation of round trips. */
  jitterMs: number | null = null;
  readonly #deps: HeartbeatDeps;
  readonly #peerId: string;
  readonly #events: HeartbeatEvents;
  #sent = new Map<number, number>();
  #firstSentMs: number | null = null;
  #samplesMs: number[] = [];
  #strays = 0;
  #heardMs: number;
  #dueMs: number;
  /** Whether the silence was excused by our own once already. */
  #excused = false;
  #cancel: () => void = () => undefined;

  constructor(deps: HeartbeatDeps, peerId: string, events: HeartbeatEvents) {
    this.#deps = deps;
    this.#peerId = peerId;
    this.#events = events;
    this.#heardMs = this.#dueMs = deps.clock.monotonicMs();
  }

  /** The shortest of the latest round trips. */
  get floor(): RoundTripFloor | null {
    const samples = this.#samplesMs.length;
    return samples === 0 ? null : { ms: Math.min(...this.#samplesMs), samples };
  }

  /** For so long the first ping is without an answer; 0 once one was answered. */
  get unansweredMs(): number {
    if (this.roundTripMs !== null || this.#firstSentMs === null) return 0;
    return this.#deps.clock.monotonicMs() - this.#firstSentMs;
  }

  start(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs - this.#heardMs > heartbeatTimeoutMs && !this.#excuse(nowMs)) {
      this.#events.lost("no sign of life");
      return;
    }
    const id = this.#anyId();
    this.#sent.set(id, nowMs);
    this.#firstSentMs ??= nowMs;
    if (this.#sent.size > pingsOpenMax) this.#sent.delete(this.#sent.keys().next().value!);
    this.#dueMs = nowMs + heartbeatIntervalMs;
    this.#cancel = this.#deps.clock.schedule(heartbeatIntervalMs, () => this.start());
    this.#events.ping(id);
  }

  /** Unforeseeable: whoever knows what comes could answer before it is asked, and seem nearer than it is. */
  #anyId(): number {
    return new DataView(this.#deps.random.bytes(4).buffer).getUint32(0);
  }

  /** What arrived while this process stood still is read before the next beat: wait for that one. */
  #excuse(nowMs: number): boolean {
    if (this.#excused || nowMs - this.#dueMs < lateTimerMs) return false;
    this.#excused = true;
    return true;
  }

  heard(): void {
    this.#heardMs = this.#deps.clock.monotonicMs();
    this.#excused = false;
  }

  /** What a peer's ping is answered with. */
  answer({ id }: Ping): Pong {
    const { whereabouts } = this.#deps;
    return whereabouts === undefined ? { id } : { id, coordinate: whereabouts.coordinate };
  }

  pong({ id, coordinate }: Pong): void {
    const sentMs = this.#sent.get(id);
    if (sentMs === undefined) {
      this.#strays += 1;
      if (this.#strays > strayPongsMax) this.#events.lost("it answers pings that nobody sent");
      return;
    }
    this.#strays = 0;
    this.#sent.delete(id);
    const measuredMs = this.#deps.clock.monotonicMs() - sentMs;
    if (this.#samplesMs.push(measuredMs) > floorSamplesMax) this.#samplesMs.shift();
    this.#smooth(measuredMs);
    if (coordinate !== undefined) this.#deps.whereabouts?.learn(this.#peerId, measuredMs, coordinate);
  }

  #smooth(measuredMs: number): void {
    if (this.roundTripMs === null || this.jitterMs === null) {
      this.roundTripMs = measuredMs;
      // One measurement says nothing about the next: RFC 6298's half would punish whoever just joined.
      this.jitterMs = 0;
      this.#events.measured?.();
      return;
    }
    const deviationMs = Math.abs(measuredMs - this.roundTripMs);
    this.jitterMs += deviationSmoothing * (deviationMs - this.jitterMs);
    this.roundTripMs += smoothing * (measuredMs - this.roundTripMs);
  }

  stop(): void {
    this.#cancel();
  }
}
