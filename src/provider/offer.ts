import type { Whereabouts } from "../network/session.ts";
import type { ModelOffer, Offer, ProviderStatus } from "../protocol/offer.ts";
import type { Clock } from "../util/clock.ts";
import type { ServedEngine } from "./handler.ts";

/** An offer outlives two missed renewals; a provider that vanished is forgotten soon after. */
export const offerLifetimeMs = 60_000;
export const offerRenewalMs: number = offerLifetimeMs / 3;

/** A coordinate that is wrong by more than this share is nothing that anybody could use yet. */
const offeredErrorMax = 0.8;

interface OfferDeps {
  readonly clock: Clock;
  readonly whereabouts?: Pick<Whereabouts, "coordinate">;
}

/** Builds this provider's offers with ever-increasing sequence numbers, also across restarts. */
export function createOfferBuilder(
  { clock, whereabouts }: OfferDeps,
  options: { providerId: string; region: string; served: readonly ServedEngine[] },
  isDraining: () => boolean,
): () => Offer {
  let sequence = 0;
  return () => {
    const nowMs = clock.nowMs();
    // Wall-clock milliseconds exceed whatever an earlier run of this provider has issued.
    sequence = Math.max(sequence + 1, nowMs);
    return {
      providerId: options.providerId,
      sequence,
      issuedAtMs: nowMs,
      expiresAtMs: nowMs + offerLifetimeMs,
      region: options.region,
      ...(whereabouts !== undefined && whereabouts.coordinate.error <= offeredErrorMax
        ? { coordinate: whereabouts.coordinate }
        : {}),
      models: isDraining() ? [] : options.served.filter(isAlive).map(modelOffer),
    };
  };
}

function isAlive({ engine }: ServedEngine): boolean {
  return engine.status().state !== "failed";
}

function modelOffer({ engine, name, price }: ServedEngine): ModelOffer {
  const { model } = engine;
  return {
    modelId: model.modelId,
    name,
    engine: engine.kind,
    trustTier: model.trustTier,
    contextTokensMax: model.contextTokensMax,
    parallelMax: model.parallelMax,
    resumable: model.resumable,
    ...(model.forwardsPrompts === true ? { forwardsPrompts: true } : {}),
    ...(model.continuesText === undefined ? {} : { continuesText: model.continuesText }),
    features: model.features,
    ...(model.toolFormat === undefined ? {} : { toolFormat: model.toolFormat }),
    ...(model.thoughtFormat === undefined ? {} : { thoughtFormat: model.thoughtFormat }),
    price,
  };
}

/** Load of all engines together. Ready when at least one engine takes work, and the provider stays. */
export function providerStatus(served: readonly ServedEngine[], isDraining: boolean): ProviderStatus {
  const loads = served.map(({ engine }) => engine.load());
  const states = served.map(({ engine }) => engine.status());
  const reasons = states.flatMap((status) => (status.state === "ready" ? [] : [status.reason]));
  if (isDraining) reasons.unshift("it is leaving");
  const ready = !isDraining && reasons.length < states.length;
  return {
    active: loads.reduce((sum, load) => sum + load.active, 0),
    queued: loads.reduce((sum, load) => sum + load.queued, 0),
    ready,
    reason: ready ? "" : reasons.join("; "),
  };
}
