/** Whether enough independent providers serve a model for as many replicas as were asked for. */
import type { RoutingHints } from "../../router/hints.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Offered } from "../directory/provider-entry.ts";
import { type ChooseDeps, refusedForGood } from "../search/choose-provider.ts";
import { notOffered } from "../search/refusals.ts";
import type { ReplicaFacts } from "./apart.ts";

export interface Enough {
  /** All replicas are of it. */
  readonly modelId: string;
  readonly providers: readonly Offered[];
  readonly facts: ReplicaFacts;
}

type Deps = Pick<ChooseDeps, "directory" | "audits">;

/** @throws SkeinError `model_not_found`, `no_provider`: how many there are, and how many were asked for */
export function enoughProviders(
  deps: Deps,
  { model, hints }: { readonly model: string; readonly hints: RoutingHints },
  replicas: number,
): Enough {
  const { directory } = deps;
  if (!directory.isOffered(model)) throw notOffered(directory, model);
  const preferred = directory.identityOf(model);
  const byIdentity = new Map<string, Offered[]>();
  for (const { providerId, offer } of directory.candidates(model, null)) {
    const entry = directory.entryOf(providerId);
    if (entry === undefined || refusedForGood(deps, { entry, offer }, hints) !== null) continue;
    byIdentity.set(offer.modelId, [...(byIdentity.get(offer.modelId) ?? []), { entry, offer }]);
  }
  const [most] = [...byIdentity].toSorted(
    ([a, some], [b, others]) =>
      Number(others.length >= replicas) - Number(some.length >= replicas) ||
      Number(b === preferred) - Number(a === preferred) ||
      others.length - some.length,
  );
  if (most === undefined || most[1].length < replicas) throw tooFew(model, most?.[1].length ?? 0, replicas);
  const [modelId, all] = most;
  const contextTokens = commonContext(all, replicas);
  const providers = all.filter(
    ({ offer }) => contextTokens === null || offer.contextTokensMax === contextTokens,
  );
  const regionOf = (id: string): string => directory.entryOf(id)?.believedRegion ?? "";
  const regions = new Set(providers.map(({ entry }) => regionOf(entry.session.providerId)));
  regions.delete("");
  return { modelId, providers, facts: { regionOf, hasRegions: regions.size >= replicas, contextTokens } };
}

/** The longest context that enough of them have. */
function commonContext(offered: readonly Offered[], replicas: number): number | null {
  const counts = new Map<number, number>();
  for (const { offer } of offered)
    counts.set(offer.contextTokensMax, (counts.get(offer.contextTokensMax) ?? 0) + 1);
  const common = [...counts].filter(([, count]) => count >= replicas).map(([tokens]) => tokens);
  return common.length === 0 ? null : Math.max(...common);
}

function tooFew(model: string, found: number, replicas: number): SkeinError {
  const who =
    found === 0 ? "no provider gives" : found === 1 ? "1 provider gives" : `${found} providers give`;
  return new SkeinError(
    "no_provider",
    `skein.trust asks for ${replicas} independent providers of '${model.slice(0, 100)}', but ${who} answers of it that can be compared bit for bit.`,
    {
      param: "skein.trust",
      hint: "Ask for fewer, or for an exact model that more providers serve (`skein models`, `skein providers`).",
      retry: "never",
    },
  );
}
