/** Providers that lie about where they are: by their coordinate, and by answers to pings that they have not heard yet. */
import type { Connection, Network } from "../../src/network/port.ts";
import { heartbeatIntervalMs, type RequestHandler } from "../../src/network/session.ts";
import type { NetworkCoordinate } from "../../src/protocol/coordinate.ts";
import { decodeFrame, encodeFrame } from "../../src/protocol/frames.ts";
import type { Clock } from "../../src/util/clock.ts";
import { OwnWhereabouts } from "../../src/router/whereabouts.ts";

/** Before the next ping is expected, what would be its id is sent this often: one of them comes just behind it. */
const guessEveryMs = 10;
const guessesFromMs = 700;

/** Stands wherever the gateway stands, and is never wrong. */
export class LyingWhereabouts extends OwnWhereabouts {
  #told: NetworkCoordinate | null = null;

  override get coordinate(): NetworkCoordinate {
    return this.#told ?? super.coordinate;
  }

  override learn(_peerId: string, _roundTripMs: number, theirs: NetworkCoordinate): void {
    this.#told = { ...theirs, heightMs: 0, error: 0 };
  }
}

/** Answers what a gateway that counts its pings would ask next, before that can have arrived. */
export function guessing(network: Network, clock: Clock): Network {
  return new Proxy(network, {
    get(target, name) {
      if (name === "dial")
        return async (...given: Parameters<Network["dial"]>) => eager(await target.dial(...given), clock);
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

function eager(connection: Connection, clock: Clock): Connection {
  let isClosed = false;
  connection.onClose(() => (isClosed = true));
  return new Proxy(connection, {
    get(target, name) {
      if (name === "onFrame") {
        return (listener: (frame: Uint8Array) => void) =>
          target.onFrame((bytes) => {
            listener(bytes);
            const frame = decodeFrame(bytes);
            if (frame.type !== "ping") return;
            const guess = encodeFrame({ type: "pong", body: { id: (frame.body.id + 1) % 2 ** 32 } });
            for (let delayMs = guessesFromMs; delayMs <= heartbeatIntervalMs; delayMs += guessEveryMs) {
              clock.schedule(delayMs, () => {
                if (!isClosed) target.send(guess);
              });
            }
          });
      }
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

/** @param onAttempt hears of every request that is no probe */
export function counting(handler: RequestHandler, onAttempt: () => void): RequestHandler {
  return {
    ...handler,
    generate: (request, signal) => {
      if (request.requestId !== "probe") onAttempt();
      return handler.generate(request, signal);
    },
  };
}
