/**
 * Sessions: the long-lived conversation between a gateway and a provider over one connection.
 * This file is the contract; see `gateway-session.ts` and `provider-session.ts`.
 */
import type { GenerateEvent, GenerateRequest, Prompt } from "../protocol/generate.ts";
import type { Offer, ProviderStatus, SignedEnvelope } from "../protocol/offer.ts";

/** The gateway's end: one provider that joined. */
export interface ProviderSession {
  readonly providerId: string;
  readonly remoteAddress: string;
  /** Newest valid offer; null until the first one arrived. */
  readonly offer: Offer | null;
  readonly status: ProviderStatus;
  /** Smoothed round trip of heartbeats in milliseconds; null before the first. */
  readonly roundTripMs: number | null;
  readonly closed: boolean;

  /** Opens a stream for one attempt. Leaving the loop or aborting cancels at the provider. */
  generate(request: GenerateRequest, signal: AbortSignal): AsyncIterable<GenerateEvent>;
  countPromptTokens(modelId: string, prompt: Prompt, signal: AbortSignal): Promise<number>;

  /** Calls back after a new offer or status. */
  onChange(listener: () => void): void;
  onClose(listener: (reason: string) => void): void;
  close(reason: string): void;
}

/** What a provider answers requests with. */
export interface RequestHandler {
  generate(request: GenerateRequest, signal: AbortSignal): AsyncIterable<GenerateEvent>;
  countPromptTokens(modelId: string, prompt: Prompt, signal: AbortSignal): Promise<number>;
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
