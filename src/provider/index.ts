/**
 * A provider: engines on one side, gateways on the other. It dials out to every gateway it was told
 * about or learns of, keeps its signed offer fresh there, and answers their requests.
 */
import type { GatewaySession, RequestHandler, Whereabouts } from "../network/session.ts";
import type { Offer, ProviderStatus, SignedEnvelope } from "../protocol/offer.ts";
import type { Clock } from "../util/clock.ts";
import type { Logger } from "../util/log.ts";
import type { Random } from "../util/random.ts";
import { type GatewayLink, type GatewayLinkState, keepJoined } from "./gateway-link.ts";
import { createRequestHandler, type ReceiptDeps, type ServedEngine } from "./handler.ts";
import { createOfferBuilder, offerRenewalMs, providerStatus } from "./offer.ts";

export type { ServedEngine } from "./handler.ts";
export type { GatewayLinkState } from "./gateway-link.ts";

/** A provider serves at most this many gateways; each costs a connection and a heartbeat. */
export const gatewaysMax = 16;
/** How often a provider that leaves looks whether its last answers have ended. */
const drainCheckMs = 50;
/** Load is reported when it changed, but not more often than this. */
const statusIntervalMs = 200;

export interface ProviderDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Its own coordinate stands in its offers; absent: none does. */
  readonly whereabouts?: Pick<Whereabouts, "coordinate">;
  /** What receipts are made with; absent: none are given. */
  readonly receipts?: ReceiptDeps;
  readonly sign: (offer: Offer) => Promise<SignedEnvelope>;
  /** Dials a target (URL or multiaddr) and completes the session handshake. */
  readonly connect: (target: string, handler: RequestHandler, signal: AbortSignal) => Promise<GatewaySession>;
}

export interface ProviderOptions {
  readonly providerId: string;
  readonly region: string;
  readonly served: readonly ServedEngine[];
  readonly onGateway?: (target: string, state: GatewayLinkState) => void;
}

export interface Provider {
  /** Starts (and keeps) serving a gateway. Returns false when known already or too many. */
  join(target: string): boolean;
  /**
   * Serves a gateway that was heard of, unless it is served already. Given up when it cannot be reached: if it
   * still exists it will be heard of again.
   */
  joinHeardOf(gatewayId: string, address: string): void;
  /** Ids of the gateways served now. */
  gateways(): string[];
  /**
   * Takes no more work, and says so to its gateways. Resolves when all answers have ended, or after `timeoutMs`: then
   * closing hands over what is left. Idempotent.
   */
  drain(timeoutMs: number): Promise<void>;
  /** Leaves all gateways and closes all engines. Idempotent. */
  close(): Promise<void>;
}

export function createProvider(deps: ProviderDeps, options: ProviderOptions): Provider {
  const { clock, log } = deps;
  const { served } = options;
  let draining = false;
  const handler = createRequestHandler(served, () => draining, deps.receipts ?? null);
  const buildOffer = createOfferBuilder(deps, options, () => draining);
  const currentStatus = (): ProviderStatus => providerStatus(served, draining);
  const links = new Map<string, GatewayLink>();
  const cancellers: (() => void)[] = [];
  let envelope: SignedEnvelope | null = null;
  let lastStatus = "";
  let closed = false;

  const sessions = (): GatewaySession[] =>
    [...links.values()]
      .map((link) => link.session)
      .filter((session) => session?.closed === false) as GatewaySession[];

  /** Signs a fresh offer and sends it to all gateways. */
  async function renewOffer(): Promise<void> {
    try {
      envelope = await deps.sign(buildOffer());
      for (const session of sessions()) session.sendOffer(envelope);
    } catch (error) {
      log.error({ error: String(error) }, "could not renew the offer");
    }
  }

  function reportStatus(): void {
    const status = currentStatus();
    const text = JSON.stringify(status);
    if (text === lastStatus) return;
    lastStatus = text;
    for (const session of sessions()) session.sendStatus(status);
  }

  async function welcome(session: GatewaySession): Promise<void> {
    // A gateway that joins late must not get an offer that is about to expire.
    envelope = await deps.sign(buildOffer());
    session.sendOffer(envelope);
    session.sendStatus(currentStatus());
  }

  function every(intervalMs: number, action: () => void): void {
    let cancel = (): void => undefined;
    const again = (): void => {
      cancel = clock.schedule(intervalMs, () => (action(), again()));
    };
    again();
    cancellers.push(() => cancel());
  }

  every(offerRenewalMs, () => void renewOffer());
  every(statusIntervalMs, reportStatus);
  for (const { engine } of served) {
    cancellers.push(engine.onStatus(() => (reportStatus(), void renewOffer())));
  }

  function join(target: string, isForever: boolean): boolean {
    if (closed || links.has(target) || links.size >= gatewaysMax) return false;
    const connect = (to: string, signal: AbortSignal): Promise<GatewaySession> =>
      deps.connect(to, handler, signal);
    const link = keepJoined({ ...deps, connect }, target, (state, session) => {
      if (session !== null) welcome(session).catch((error: unknown) => session.close(String(error)));
      if (state.state === "waiting" && !isForever) {
        links.get(target)?.close();
        links.delete(target);
      } else {
        options.onGateway?.(target, state);
      }
    });
    links.set(target, link);
    return true;
  }

  return {
    join: (target) => join(target, true),
    joinHeardOf(gatewayId, address) {
      const all = [...links.values()];
      // A link that connects just now may be to this very gateway; the next time it is heard of will tell.
      if (all.some(({ connecting, session }) => connecting || session?.gatewayId === gatewayId)) return;
      join(address, false);
    },
    async drain(timeoutMs) {
      draining = true;
      reportStatus();
      await renewOffer();
      const endMs = clock.monotonicMs() + timeoutMs;
      const { active, queued } = currentStatus();
      log.info({ active, queued }, "the provider takes no more work");
      while (clock.monotonicMs() < endMs && hasWork(currentStatus())) {
        await new Promise<void>((resolve) => clock.schedule(drainCheckMs, resolve));
      }
    },
    gateways: () => sessions().map((session) => session.gatewayId),
    async close() {
      if (closed) return;
      closed = true;
      for (const cancel of cancellers) cancel();
      for (const link of links.values()) link.close();
      await Promise.allSettled(served.map(({ engine }) => engine.close()));
    },
  };
}

function hasWork({ active, queued }: ProviderStatus): boolean {
  return active + queued > 0;
}
