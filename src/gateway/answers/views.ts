/** How amounts, prices, models and providers look in JSON. */
import type { FeeView, ModelView, PriceView, ProviderView } from "../../protocol/gateway-api.ts";
import type { ModelOffer } from "../../protocol/offer.ts";
import { fee, nanoToUsd, type PriceSheet } from "../../protocol/price.ts";
import { slotsFor } from "../../router/plan.ts";
import type { RoutingPolicy } from "../../router/policy.ts";
import type { Cloud } from "../search/cloud.ts";
import { roundTripOf } from "../directory/candidate.ts";
import type { Directory } from "../directory/directory.ts";
import type { CloudPrice } from "../options.ts";
import type { ProviderEntry } from "../directory/provider-entry.ts";
import { doubtText } from "../directory/region-watch.ts";
import { advice } from "../directory/work.ts";

export function feeView(
  amount: bigint,
  tokens: { inputTokens: number; outputTokens: number },
  cloudPrice: CloudPrice | null,
): FeeView {
  const view: FeeView = { amount: amount.toString(), unit: "nanoUSD", usd: nanoToUsd(amount) };
  if (cloudPrice !== null) {
    const cloud = fee({ ...cloudPrice, perSecond: 0n }, { ...tokens, durationMs: 0 });
    view.cloud = { name: cloudPrice.name, amount: cloud.toString(), usd: nanoToUsd(cloud) };
  }
  return view;
}

export function priceView(price: PriceSheet): PriceView {
  return {
    unit: "nanoUSD",
    input_per_million_tokens: price.inputPerMillionTokens.toString(),
    output_per_million_tokens: price.outputPerMillionTokens.toString(),
    per_second: price.perSecond.toString(),
  };
}

/** Order of price sheets for people: what a million tokens in and out and a minute cost. */
function dearness(price: PriceSheet): bigint {
  return price.inputPerMillionTokens + price.outputPerMillionTokens + 60n * price.perSecond;
}

export interface ListedModel {
  readonly name: string;
  /** When its first provider joined. */
  readonly sinceMs: number;
  readonly view: ModelView;
}

/**
 * Models that somebody serves right now, by name; the cloud's only where nobody else does.
 *
 * @param aliases other names for them
 */
export function listModels(
  directory: Directory,
  cloud: Cloud | null,
  aliases: ReadonlyMap<string, string> = new Map(),
): ListedModel[] {
  const byName = new Map<string, { entry: ProviderEntry; offer: ModelOffer }[]>();
  for (const entry of directory.entries) {
    for (const offer of entry.models) {
      if (!entry.isAvailable(offer.modelId)) continue;
      byName.set(offer.name, [...(byName.get(offer.name) ?? []), { entry, offer }]);
    }
  }
  for (const alias of aliases.keys()) byName.delete(alias);
  const models = [...byName].map(([name, served]) => listed(directory, name, served));
  for (const offer of cloud?.offers ?? []) {
    if (!byName.has(offer.name) && !aliases.has(offer.name)) models.push(listedCloud(offer));
  }
  for (const [alias, target] of aliases) {
    const name = directory.offersOf(target)[0]?.offer.name ?? target;
    const model = models.find((other) => other.name === name);
    if (model !== undefined)
      models.push({ ...model, name: alias, view: { ...model.view, alias_of: target } });
  }
  return models.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

function listedCloud({ name, modelId, engine, trustTier, contextTokensMax, price }: ModelOffer): ListedModel {
  return {
    name,
    sinceMs: 0,
    view: {
      model_ids: [modelId],
      engines: [engine],
      trust_tiers: [trustTier],
      providers: 0,
      context_tokens_max: contextTokensMax,
      price: { from: priceView(price), to: priceView(price) },
    },
  };
}

function listed(
  directory: Directory,
  name: string,
  served: readonly { entry: ProviderEntry; offer: ModelOffer }[],
): ListedModel {
  const preferred = directory.identityOf(name);
  const ids = [...new Set(served.map(({ offer }) => offer.modelId))].sort();
  const prices = served
    .map(({ offer }) => offer.price)
    .toSorted((a, b) => (dearness(a) < dearness(b) ? -1 : 1));
  return {
    name,
    sinceMs: Math.min(...served.map(({ entry }) => entry.joinedAtMs)),
    view: {
      model_ids: ids.toSorted((a, b) => Number(b === preferred) - Number(a === preferred)),
      engines: [...new Set(served.map(({ offer }) => offer.engine))],
      trust_tiers: [...new Set(served.map(({ offer }) => offer.trustTier))],
      providers: served.length,
      context_tokens_max: Math.min(...served.map(({ offer }) => offer.contextTokensMax)),
      price: { from: priceView(prices[0]!), to: priceView(prices.at(-1)!) },
    },
  };
}

export function providerView(entry: ProviderEntry, policy: RoutingPolicy): ProviderView {
  const { session } = entry;
  const { roundTripMs, roundTripFrom } = roundTripOf(session, policy);
  const { measurements = 0, contradictions = 0 } = session.coordinateRecord ?? {};
  return {
    id: session.providerId,
    address: session.remoteAddress,
    region: session.offer?.region ?? "",
    region_doubt: entry.regionDoubt === null ? null : doubtText(entry.regionDoubt),
    ...stateOf(entry),
    joined_at: Math.floor(entry.joinedAtMs / 1000),
    active: session.status.active,
    queued: session.status.queued,
    round_trip_ms: Math.round(roundTripMs * 100) / 100,
    round_trip_from: roundTripFrom,
    estimated_round_trip_ms: rounded(session.estimatedRoundTripMs ?? null),
    coordinates: { compared: measurements, contradicted: contradictions },
    ttft_ms: rounded(entry.pace.ttftMs),
    tokens_per_second: rounded(entry.pace.tokensPerSecond),
    requests: { completed: entry.completed, failed: entry.failed },
    work: workView(entry),
    models: entry.models.map((offer) => ({
      name: offer.name,
      model_id: offer.modelId,
      engine: offer.engine,
      trust_tier: offer.trustTier,
      context_tokens_max: offer.contextTokensMax,
      parallel_max: offer.parallelMax,
      kept_free: offer.parallelMax - slotsFor(offer.parallelMax, false, policy.headroom),
      resumable: offer.resumable,
      continues_text: offer.continuesText ?? "none",
      forwards_prompts: offer.forwardsPrompts === true,
      features: offer.features,
      tool_format: offer.toolFormat ?? "generic",
      thought_format: offer.thoughtFormat ?? "none",
      price: priceView(offer.price),
    })),
  };
}

function workView(entry: ProviderEntry): ProviderView["work"] {
  const { work } = entry;
  const reasons = work.reasons.map(([reason, count]) => ({ reason, count, advice: advice[reason] ?? "" }));
  const { reason: state } = stateOf(entry);
  const idle = "no request for its models came, or many others rank before it";
  return {
    chosen: work.chosen,
    passed_over: work.passedOver,
    last_chosen_at: work.lastChosenMs === null ? null : Math.floor(work.lastChosenMs / 1000),
    reasons,
    advice: state !== "" ? state : (reasons[0]?.advice ?? (work.chosen > 0 ? "" : idle)),
  };
}

export const providerStates: readonly ProviderView["state"][] = [
  "available",
  "probing",
  "cooling",
  "not_ready",
  "no_offer",
];

export function stateOf(entry: ProviderEntry): Pick<ProviderView, "state" | "reason"> {
  const { session } = entry;
  if (session.offer === null) return { state: "no_offer", reason: "it has sent no valid offer" };
  if (!session.status.ready) return { state: "not_ready", reason: session.status.reason };
  const healths = entry.models.map(({ modelId }) => entry.served(modelId).health);
  if (healths.some(({ state }) => state === "proved")) return { state: "available", reason: "" };
  const cooling = healths.find((health) => health.state === "cooling");
  if (cooling !== undefined) return { state: "cooling", reason: cooling.reason };
  return { state: "probing", reason: "it has not answered its probe yet" };
}

function rounded(value: number | null): number | null {
  return value === null ? null : Math.round(value * 100) / 100;
}
