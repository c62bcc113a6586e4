/**
 * Which providers are left for each replica of an answer: none answers for two of them. Identities are what a gateway can tell
 * apart; where enough providers declare different regions, replicas begin in different ones, too.
 */
import type { ModelOffer } from "../../protocol/offer.ts";
import type { Progress } from "../attempts/attempt.ts";

/** As one replica sees it. */
export interface Apart {
  /** It looks for a provider: of those that it had, only those that delivered something stay its own. */
  searches(progress: Pick<Progress, "slices">): void;
  take(providerId: string): void;
  /** @param region where the provider says that it is; empty: it does not say, or cannot be there */
  excludes(providerId: string, region: string, offer: Pick<ModelOffer, "contextTokensMax">): boolean;
}

export interface ReplicaFacts {
  readonly regionOf: (providerId: string) => string;
  /** Whether there are as many declared regions as replicas. */
  readonly hasRegions: boolean;
  /** Answers end where the context does: only offers with the same can be compared. Null: there are not enough. */
  readonly contextTokens: number | null;
}

export class Replicas {
  readonly #facts: ReplicaFacts;
  readonly #taken: Set<string>[] = [];

  constructor(facts: ReplicaFacts) {
    this.#facts = facts;
  }

  isTaken(providerId: string): boolean {
    return this.#taken.some((own) => own.has(providerId));
  }

  /** For one more replica. */
  add(): Apart {
    const { regionOf, hasRegions, contextTokens } = this.#facts;
    const own = new Set<string>();
    this.#taken.push(own);
    let hasBegun = false;
    return {
      searches: ({ slices }) => {
        own.clear();
        for (const { providerId } of slices) own.add(providerId);
      },
      take: (providerId) => {
        own.add(providerId);
        hasBegun = true;
      },
      excludes: (providerId, region, { contextTokensMax }) => {
        if (contextTokens !== null && contextTokensMax !== contextTokens) return true;
        const others = this.#taken.filter((each) => each !== own).flatMap((each) => [...each]);
        if (others.includes(providerId)) return true;
        // Once it has failed somewhere, any provider that is left will do.
        if (!hasRegions || hasBegun) return false;
        return region === "" || others.some((id) => regionOf(id) === region);
      },
    };
  }
}
