/**
 * Gateways announce themselves by gossip to the peers of their network, so that a provider that joined one
 * of them finds the others. Announcements are signed and expire; only those of the same network, that is
 * with the same join token, count.
 */
import { type ZodType, z } from "zod";
import { decodeCbor, encodeCbor } from "../protocol/cbor.ts";
import { openStatement, type Signer, signStatement } from "../protocol/signing.ts";
import { envelopeSchema } from "../protocol/messages.ts";
import { sha256, toHex, utf8 } from "../util/bytes.ts";
import { toSkeinError } from "../util/errors.ts";
import { AuthorLimit } from "./author-limit.ts";
import type { Network } from "./port.ts";
import type { SessionDeps } from "./session.ts";

export const announceTopic = "skein/gateways/1";
export const announceIntervalMs = 5_000;
const announceLifetimeMs: number = 6 * announceIntervalMs;
/** Gateways a peer remembers; more announcements than that are somebody's game. */
const gatewaysKnownMax = 256;
/** A neighbour that was not found again for this long is gone; it is asked for every ten seconds. */
export const neighbourLifetimeMs = 60_000;
const announceDomain = "skein-gateway-v1";

interface Announcement {
  readonly gatewayId: string;
  /** Hash of the join token: who does not know the token cannot name its network. */
  readonly networkId: string;
  readonly addresses: readonly string[];
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
}

const timestamp = z
  .number()
  .int()
  .min(0)
  .max(2 ** 52);
const announcementSchema: ZodType<Announcement> = z.strictObject({
  gatewayId: z.string().max(64),
  networkId: z.string().max(64),
  addresses: z.array(z.string().max(300)).max(16),
  issuedAtMs: timestamp,
  expiresAtMs: timestamp,
});

interface AnnounceDeps extends SessionDeps {
  readonly network: Network;
}

async function networkIdOf(token: string | null): Promise<string> {
  return toHex((await sha256(utf8(`skein-network-v1\0${token ?? ""}`))).slice(0, 16));
}

/** Publishes this gateway's announcement now and then until closed. */
export async function createAnnouncer(
  deps: AnnounceDeps & { readonly signer: Signer },
  options: { token: string | null },
): Promise<{ close(): void }> {
  const { clock, network, signer, log } = deps;
  const networkId = await networkIdOf(options.token);
  // Gossip flows only among those that follow the topic, authors included.
  const unsubscribe = network.subscribe(announceTopic, () => undefined);
  let cancel = (): void => undefined;

  async function announce(): Promise<void> {
    const issuedAtMs = clock.nowMs();
    const announcement: Announcement = {
      gatewayId: network.peerId,
      networkId,
      addresses: network.addresses().slice(0, 16),
      issuedAtMs,
      expiresAtMs: issuedAtMs + announceLifetimeMs,
    };
    try {
      const envelope = await signStatement(signer, announceDomain, announcement);
      await network.publish(announceTopic, encodeCbor(envelope));
    } catch (error) {
      log.debug({ reason: toSkeinError(error).message }, "announcement was not published");
    }
    cancel = clock.schedule(announceIntervalMs, () => void announce());
  }

  void announce();
  return {
    close() {
      cancel();
      unsubscribe();
    },
  };
}

/**
 * Reports gateways of the same network, each as often as it announces itself: whoever was not ready for one
 * hears of it again. Returns a function that stops.
 */
export function watchGateways(
  deps: AnnounceDeps,
  options: { token: string | null },
  onGateway: (gatewayId: string, address: string) => void,
): () => void {
  const { clock, network, log } = deps;
  const expected = networkIdOf(options.token);
  /** When each known gateway's newest announcement expires. */
  const known = new Map<string, number>();
  const report = inTurn(onGateway);

  async function hear(data: Uint8Array, from: string): Promise<void> {
    const nowMs = clock.nowMs();
    const envelope = decodeCbor(envelopeSchema, data, "announcement");
    const announcement = await openStatement(
      announceDomain,
      announcementSchema,
      envelope,
      { nowMs },
      ({ gatewayId }) => gatewayId,
    );
    // Whoever gossips another one's announcement again would use up what that one may say.
    if (announcement.gatewayId !== from || announcement.networkId !== (await expected)) return;
    for (const [gatewayId, expiresAtMs] of known) if (expiresAtMs <= nowMs) known.delete(gatewayId);
    if (!known.has(announcement.gatewayId) && known.size >= gatewaysKnownMax) return;
    // No claim of its own keeps a gateway in the table for longer than an honest one stays.
    known.set(announcement.gatewayId, Math.min(announcement.expiresAtMs, nowMs + announceLifetimeMs));
    const suffix = `/p2p/${announcement.gatewayId}`;
    report(
      announcement.gatewayId,
      announcement.addresses.filter((address) => address.endsWith(suffix)),
    );
  }

  const limit = new AuthorLimit(clock);
  const unsubscribe = network.subscribe(announceTopic, (data, from) => {
    if (!limit.allows(from)) return;
    hear(data, from).catch((error: unknown) => {
      log.debug({ reason: toSkeinError(error).message }, "an announcement was ignored");
    });
  });
  const stopReminding = watchNeighbours(deps, report);
  return () => {
    stopReminding();
    unsubscribe();
  };
}

/**
 * Reports peers of the local network, like announcements again and again as long as they are there. Only if
 * one is a gateway will the session's handshake succeed.
 */
function watchNeighbours(
  { clock, network }: AnnounceDeps,
  report: (peerId: string, addresses: readonly string[]) => void,
): () => void {
  const neighbours = new Map<string, { readonly addresses: readonly string[]; readonly seenMs: number }>();
  network.onDiscovery(({ peerId, addresses }) => {
    const isNew = !neighbours.has(peerId);
    if (isNew && neighbours.size >= gatewaysKnownMax) return;
    neighbours.set(peerId, { addresses, seenMs: clock.monotonicMs() });
    if (isNew) report(peerId, addresses);
  });
  let cancel = (): void => undefined;
  const remind = (): void => {
    for (const [peerId, { addresses, seenMs }] of neighbours) {
      if (clock.monotonicMs() - seenMs > neighbourLifetimeMs) neighbours.delete(peerId);
      else report(peerId, addresses);
    }
    cancel = clock.schedule(announceIntervalMs, remind);
  };
  remind();
  return () => cancel();
}

/** Reports one of a gateway's addresses, each time another: a machine has many, and not all lead to it. */
function inTurn(
  onGateway: (gatewayId: string, address: string) => void,
): (gatewayId: string, addresses: readonly string[]) => void {
  const turns = new Map<string, number>();
  return (gatewayId, addresses) => {
    // Another machine's loopback address leads nowhere; a gateway on this one may have no other.
    const sorted = addresses.toSorted((a, b) => Number(isLoopback(a)) - Number(isLoopback(b)));
    const turn = turns.get(gatewayId) ?? 0;
    if (turns.size < 2 * gatewaysKnownMax) turns.set(gatewayId, turn + 1);
    const address = sorted[turn % sorted.length];
    if (address !== undefined) onGateway(gatewayId, address);
  };
}

function isLoopback(address: string): boolean {
  return address.startsWith("/ip4/127.") || address.startsWith("/ip6/::1/");
}
