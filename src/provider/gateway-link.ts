import type { GatewaySession } from "../network/session.ts";
import type { Clock } from "../util/clock.ts";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import type { Logger } from "../util/log.ts";
import type { Random } from "../util/random.ts";

/** How a provider stands with one gateway. */
export type GatewayLinkState =
  | { readonly state: "connecting"; readonly attempt: number }
  | { readonly state: "joined"; readonly gatewayId: string; readonly address: string }
  /** Not connected now; tries again by itself after `retryInMs`. */
  | { readonly state: "waiting"; readonly error: SkeinError; readonly retryInMs: number };

export interface GatewayLink {
  /** What was asked for: a URL or a multiaddr. */
  readonly target: string;
  readonly session: GatewaySession | null;
  /** Whether an attempt to connect is running now. */
  readonly connecting: boolean;
  close(): void;
}

const retryMinMs = 500;
/** A gateway that restarts is found again soon; one that is gone costs little. */
const retryMaxMs = 15_000;
/** A refusal (wrong token) and an address that means nothing rarely mend themselves. */
const retryRefusedMs = 30_000;
/** Covers a slow handshake over a bad line, no more. */
const connectTimeoutMs = 10_000;

/**
 * Keeps one provider joined to one gateway: connect, serve until the session closes, wait, connect
 * again, until `close`.
 */
export function keepJoined(
  deps: {
    clock: Clock;
    random: Random;
    log: Logger;
    connect: (target: string, signal: AbortSignal) => Promise<GatewaySession>;
  },
  target: string,
  onState: (state: GatewayLinkState, session: GatewaySession | null) => void,
): GatewayLink {
  const { clock, random, log } = deps;
  const closed = new AbortController();
  let session: GatewaySession | null = null;
  let connecting = true;

  async function run(): Promise<void> {
    let attempt = 0;
    while (!closed.signal.aborted) {
      connecting = true;
      onState({ state: "connecting", attempt }, null);
      let error: SkeinError;
      try {
        session = await connect(deps, target, closed.signal);
        connecting = false;
        onState({ state: "joined", gatewayId: session.gatewayId, address: session.remoteAddress }, session);
        attempt = 0;
        error = toSkeinError(new Error(await closing(session)), "connection_failed");
      } catch (thrown) {
        error = toSkeinError(thrown, "connection_failed");
      }
      session = null;
      connecting = false;
      if (closed.signal.aborted) return;
      attempt += 1;
      const retryInMs = retryDelayMs(error, attempt, random);
      log.info({ target, code: error.code, reason: error.message, retryInMs }, "gateway link is down");
      onState({ state: "waiting", error, retryInMs }, null);
      await pause(clock, retryInMs, closed.signal);
    }
  }

  void run();
  return {
    target,
    get session() {
      return session;
    },
    get connecting() {
      return connecting;
    },
    close() {
      closed.abort();
      session?.close("the provider stops");
    },
  };
}

async function connect(
  deps: {
    readonly clock: Clock;
    readonly connect: (target: string, signal: AbortSignal) => Promise<GatewaySession>;
  },
  target: string,
  closed: AbortSignal,
): Promise<GatewaySession> {
  const late = new AbortController();
  const cancel = deps.clock.schedule(connectTimeoutMs, () =>
    late.abort(new SkeinError("connection_failed", `No answer within ${connectTimeoutMs} ms.`)),
  );
  try {
    return await deps.connect(target, AbortSignal.any([closed, late.signal]));
  } finally {
    cancel();
  }
}

/** Exponential with full jitter, so that providers of a restarted gateway do not return in step. */
function retryDelayMs(error: SkeinError, attempt: number, random: Random): number {
  if (error.code === "join_refused" || error.retry === "never") return retryRefusedMs;
  const ceilingMs = Math.min(retryMaxMs, retryMinMs * 2 ** (attempt - 1));
  return Math.round(ceilingMs / 2 + (random.next() * ceilingMs) / 2);
}

function closing(session: GatewaySession): Promise<string> {
  return new Promise((resolve) => session.onClose(resolve));
}

function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.schedule(delayMs, resolve);
    signal.addEventListener("abort", () => (cancel(), resolve()), { once: true });
  });
}
