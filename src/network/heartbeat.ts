import type { Clock } from "../util/clock.ts";
import { heartbeatIntervalMs, heartbeatTimeoutMs } from "./session.ts";

/** Weight of the newest measurement in the smoothed round trip (RFC 6298's value). */
const smoothing = 1 / 8;

/**
 * Pings at an interval, measures round trips and notices silence. Everything received counts as a sign of
 * life, so a busy session needs no extra traffic to stay alive.
 */
export class Heartbeat {
  roundTripMs: number | null = null;
  readonly #clock: Clock;
  readonly #ping: (id: number) => void;
  readonly #onSilence: () => void;
  #sent = new Map<number, number>();
  #nextId = 1;
  #heardMs: number;
  #cancel: () => void = () => undefined;

  constructor(clock: Clock, ping: (id: number) => void, onSilence: () => void) {
    this.#clock = clock;
    this.#ping = ping;
    this.#onSilence = onSilence;
    this.#heardMs = clock.monotonicMs();
  }

  start(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#heardMs > heartbeatTimeoutMs) {
      this.#onSilence();
      return;
    }
    const id = this.#nextId++ % 2 ** 32;
    this.#sent.set(id, nowMs);
    if (this.#sent.size > 16) this.#sent.delete(this.#sent.keys().next().value!);
    this.#ping(id);
    this.#cancel = this.#clock.schedule(heartbeatIntervalMs, () => this.start());
  }

  heard(): void {
    this.#heardMs = this.#clock.monotonicMs();
  }

  pong(id: number): void {
    const sentMs = this.#sent.get(id);
    if (sentMs === undefined) return;
    this.#sent.delete(id);
    const measuredMs = this.#clock.monotonicMs() - sentMs;
    this.roundTripMs =
      this.roundTripMs === null ? measuredMs : this.roundTripMs + smoothing * (measuredMs - this.roundTripMs);
  }

  stop(): void {
    this.#cancel();
  }
}
