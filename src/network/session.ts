/**
 * Sessions: the long-lived conversation between a gateway and a provider over one connection.
 *
 *     provider                       gateway
 *     hello {nonce}          →
 *                            ←       hello {nonce}
 *     proof {join token}     →
 *                            ←       welcome {proof} | refused {reason}
 *     offer, status          →                          … whenever they change
 *     ping / pong            ⇄                          … every second
 *                            ←       generate | count | embed | trace
 *     start, tokens…, end    →                          … under credit
 *                            ←       credit | cancel
 *
 * `gateway-session.ts` and `provider-session.ts` are the two ends.
 */
import type { NetworkCoordinate } from "../protocol/coordinate.ts";
import type { Embedded, EmbedRequest } from "../protocol/embed.ts";
import type { GenerateEvent, GenerateRequest, Prompt, Traced, TraceRequest } from "../protocol/generate.ts";
import type { Offer, ProviderStatus, SignedEnvelope } from "../protocol/offer.ts";
import type { Clock } from "../util/clock.ts";
import type { Logger } from "../util/log.ts";
import type { Random } from "../util/random.ts";
import type { Sink } from "../util/sink.ts";

export interface SessionDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Absent: this party tells no coordinate and learns none. */
  readonly whereabouts?: Whereabouts;
}

/** A party's own network coordinate: told with every pong, learnt from every round trip to whoever tells one. */
export interface Whereabouts {
  readonly coordinate: NetworkCoordinate;
  /** @param roundTripMs one measurement; @param theirs what the peer told with it */
  learn(peerId: string, roundTripMs: number, theirs: NetworkCoordinate): void;
  /** Milliseconds to a peer of which only a coordinate is known; null: nobody can say. */
  estimateMs(peerId: string, theirs: NetworkCoordinate): number | null;
  recordOf(peerId: string): CoordinateRecord;
}

/** The shortest of the latest round trips: load makes them longer, nothing makes them shorter than the way. */
export interface RoundTripFloor {
  readonly ms: number;
  /** That it was taken from. */
  readonly samples: number;
}

/** How a peer's coordinates did against measurements. */
export interface CoordinateRecord {
  readonly measurements: number;
  readonly contradictions: number;
}

/** The gateway's end: one provider that joined. */
export interface ProviderSession {
  readonly providerId: string;
  readonly remoteAddress: string;
  /** Newest valid offer; null until the first one arrived. */
  readonly offer: Offer | null;
  readonly status: ProviderStatus;
  /** Smoothed round trip of heartbeats in milliseconds; null before the first. */
  readonly roundTripMs: number | null;
  /** Smoothed deviation of these round trips; null or absent: unknown. */
  readonly jitterMs?: number | null;
  /** Null or absent: nothing was measured. */
  readonly roundTripFloor?: RoundTripFloor | null;
  /** By the coordinate in its offer; null or absent: nobody can say. */
  readonly estimatedRoundTripMs?: number | null;
  /** For so long the first ping is without an answer: the round trip takes at least as long. 0 once it was answered. */
  readonly unansweredMs?: number;
  /** Absent: coordinates are not learnt here. */
  readonly coordinateRecord?: CoordinateRecord;
  readonly closed: boolean;

  /**
   * One attempt: tells its events as they arrive, and resolves behind the last one. While the sink has no room the provider
   * is made to wait. Aborting, or a sink that throws, cancels at the provider.
   * @param onLate hears what comes behind a cancellation, up to the receipt, for a moment
   */
  generate(
    request: GenerateRequest,
    signal: AbortSignal,
    sink: Sink<GenerateEvent>,
    onLate?: (event: GenerateEvent) => void,
  ): Promise<void>;
  countPromptTokens(modelId: string, prompt: Prompt, signal: AbortSignal): Promise<number>;
  /** Commitments of an earlier answer, made again. Absent: it gives none. @throws SkeinError `overloaded`, `invalid_request` */
  trace?(request: TraceRequest, signal: AbortSignal): Promise<Traced>;
  /** Texts as vectors; only where the offer has `embeddings`. */
  embed?(request: EmbedRequest, signal: AbortSignal): Promise<Embedded>;

  /** Calls back after a new offer or status. */
  onChange(listener: () => void): void;
  onClose(listener: (reason: string) => void): void;
  close(reason: string): void;
}

/** What a provider answers requests with. */
export interface RequestHandler {
  generate(request: GenerateRequest, signal: AbortSignal): AsyncIterable<GenerateEvent>;
  countPromptTokens(modelId: string, prompt: Prompt, signal: AbortSignal): Promise<number>;
  /** Absent: it gives none. */
  trace?(request: TraceRequest, signal: AbortSignal): Promise<Traced>;
  /** Absent: it makes none. */
  embed?(request: EmbedRequest, signal: AbortSignal): Promise<Embedded>;
}

/** The provider's end: one gateway it serves. */
export interface GatewaySession {
  readonly gatewayId: string;
  readonly remoteAddress: string;
  readonly closed: boolean;
  sendOffer(envelope: SignedEnvelope): void;
  sendStatus(status: ProviderStatus): void;
  onClose(listener: (reason: string) => void): void;
  close(reason: string): void;
}

/** Who may join a gateway. */
export type JoinPolicy =
  | { readonly kind: "open" }
  /** Whoever proves to know the token, or is on the list. */
  | { readonly kind: "restricted"; readonly token: string | null; readonly allow: readonly string[] };

/** A handshake is four small messages; a peer that takes longer is not a peer. */
export const handshakeTimeoutMs = 5_000;
export const heartbeatIntervalMs = 1_000;
/** Four missed heartbeats: an unplugged machine is gone from the models within five seconds. */
export const heartbeatTimeoutMs = 4_000;
/** Requests of one session at the same time; more than any engine's slots and queue. */
export const streamsMax = 1_024;
/** `tokens` events that a provider may send before the gateway's consumer has read some. */
export const creditEvents = 256;
/** Bytes of `tokens` frames that may be unread before a provider waits; usual ones fill a tenth of it. */
export const creditBytes: number = 1024 * 1024;
