import type { Clock } from "../util/clock.ts";
import { heartbeatIntervalMs, heartbeatTimeoutMs } from "./session.ts";

/** Weights of the newest measurement in the smoothed round trip and its deviation (RFC 6298's values). */
const smoothing = 1 / 8;
const deviationSmoothing = 1 / 4;
/** A timer that fires this much late says that this process stood still: nobody could have been heard. */
const lateTimerMs = 500;
/** Pings that may be answered yet. */
const pingsOpenMax = 16;

/**
 * Pings at an interval, measures round trips and notices silence. Everything received counts as a sign of
 * life, so a busy session needs no extra traffic to stay alive.
 */
export class Heartbeat {
  roundTripMs: number | null = null;
  /** Smoothed deviation of round trips. */
  jitterMs: number | null = null;
  readonly #clock: Clock;
  readonly #ping: (id: number) => void;
  readonly #onSilence: () => void;
  #sent = new Map<number, number>();
  #nextId = 1;
  #heardMs: number;
  #dueMs: number;
  /** Whether the silence was excused by our own once already. */
  #excused = false;
  #cancel: () => void = () => undefined;

  constructor(clock: Clock, ping: (id: number) => void, onSilence: () => void) {
    this.#clock = clock;
    this.#ping = ping;
    this.#onSilence = onSilence;
    this.#heardMs = this.#dueMs = clock.monotonicMs();
  }

  start(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#heardMs > heartbeatTimeoutMs && !this.#excuse(nowMs)) {
      this.#onSilence();
      return;
    }
    const id = this.#nextId++ % 2 ** 32;
    this.#sent.set(id, nowMs);
    if (this.#sent.size > pingsOpenMax) this.#sent.delete(this.#sent.keys().next().value!);
    this.#dueMs = nowMs + heartbeatIntervalMs;
    this.#cancel = this.#clock.schedule(heartbeatIntervalMs, () => this.start());
    this.#ping(id);
  }

  /** What arrived while this process stood still is read before the next beat: wait for that one. */
  #excuse(nowMs: number): boolean {
    if (this.#excused || nowMs - this.#dueMs < lateTimerMs) return false;
    this.#excused = true;
    return true;
  }

  heard(): void {
    this.#heardMs = this.#clock.monotonicMs();
    this.#excused = false;
  }

  pong(id: number): void {
    const sentMs = this.#sent.get(id);
    if (sentMs === undefined) return;
    this.#sent.delete(id);
    const measuredMs = this.#clock.monotonicMs() - sentMs;
    if (this.roundTripMs === null || this.jitterMs === null) {
      this.roundTripMs = measuredMs;
      // One measurement says nothing about the next: RFC 6298's half would punish whoever just joined.
      this.jitterMs = 0;
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
