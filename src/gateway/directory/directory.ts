/** The live table of providers: who is joined, what they offer, how they did lately. */
import type { ProviderSession } from "../../network/session.ts";
import type { ModelOffer } from "../../protocol/offer.ts";
import { OfferIndex } from "../../router/offer-index.ts";
import { type Observation, paceShareOf } from "../../router/pace.ts";
import { typicalRequest } from "../../router/plan.ts";
import { defaultPolicy, type RoutingPolicy } from "../../router/policy.ts";
import { type Candidate, predict } from "../../router/predict.ts";
import type { Random } from "../../util/random.ts";
import { type SkeinError, toSkeinError } from "../../util/errors.ts";
import type { GatewayDeps } from "../options.ts";
import { candidateOf } from "./candidate.ts";
import { matches } from "./model-name.ts";
import { probe } from "./probe.ts";
import { type Health, type Offered, ProviderEntry } from "./provider-entry.ts";
import { RegionWatch } from "./region-watch.ts";
import { Reliability } from "./reliability.ts";
import type { Trust } from "./trust.ts";
import { Uptime } from "./uptime.ts";

const coolingMinMs = 1_000;
const coolingMaxMs = 60_000;
/** Providers that failed together must not come back together: up to this part of the pause is left out. */
const coolingJitter = 0.25;
/** A model that answered nothing for this long is probed again, so that "available" means lately. */
const provedMs = 30_000;
const sweepMs = 5_000;
/** Names remembered as served once; providers come and go with names of their own choosing. */
const knownNamesMax = 1_000;

type DirectoryDeps = Omit<GatewayDeps, "store">;

export class Directory {
  readonly #deps: DirectoryDeps;
  readonly policy: RoutingPolicy;
  readonly #index = new OfferIndex<Offered>();
  readonly #entries = new Map<string, ProviderEntry>();
  /** Names that were served once: a request for them is answered 503, not 404, while nobody is there. */
  readonly #knownNames = new Set<string>();
  readonly #listeners = new Set<() => void>();
  readonly #reliability: Reliability;
  readonly #uptime: Uptime;
  readonly #trust: Trust | null;
  readonly #regions: RegionWatch;
  #cancelSweep = (): void => undefined;

  constructor(
    deps: DirectoryDeps,
    policy: RoutingPolicy = defaultPolicy,
    trust: Trust | null = null,
    region = "",
  ) {
    this.#deps = deps;
    this.#regions = new RegionWatch(region, policy.region);
    this.policy = policy;
    this.#trust = trust;
    this.#reliability = new Reliability(deps.clock);
    this.#uptime = new Uptime(deps.clock, (providerId, seen) => trust?.observed(providerId, seen));
    this.#scheduleSweep();
  }

  get entries(): readonly ProviderEntry[] {
    return [...this.#entries.values()];
  }

  /** Calls back whenever a provider may have room that it had not before. Returns a function that unsubscribes. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Takes in a provider that joined; an older session of the same provider is closed. */
  add(session: ProviderSession): void {
    this.#entries.get(session.providerId)?.session.close("the same provider joined again");
    const entry = new ProviderEntry(session, this.#deps.clock.nowMs());
    this.#entries.set(session.providerId, entry);
    this.#uptime.joined(session.providerId);
    this.#regions.joined(entry);
    entry.onLoad = () => this.#reindex(entry);
    this.#reindex(entry);
    session.onChange(() => this.#sessionChanged(entry));
    session.onClose((reason) => {
      entry.stopTimers();
      // One that said that it leaves may hand its work over; one that vanished with it has failed.
      if (entry.inFlight > 0 && session.status.ready) this.#reliability.failed(session.providerId);
      if (this.#entries.get(session.providerId) === entry) {
        this.#uptime.left(session.providerId, !session.status.ready);
        this.#regions.left(entry);
        this.#entries.delete(session.providerId);
        this.#unindex(entry);
      }
      this.#deps.log.info({ provider: session.providerId, reason }, "provider left");
      this.#changed();
    });
    this.#deps.log.info({ provider: session.providerId, address: session.remoteAddress }, "provider joined");
    this.#prove(entry);
  }

  /** All offers of a model, with their providers. `name` may be an alias, an identity, or `alias@prefix`. */
  offersOf(name: string): { entry: ProviderEntry; offer: ModelOffer }[] {
    return this.entries.flatMap((entry) =>
      entry.models.filter((offer) => matches(offer, name)).map((offer) => ({ entry, offer })),
    );
  }

  /** Whether anybody offers the model, able to serve it now or not. */
  isOffered(name: string): boolean {
    return this.#index.identitiesOf(name).length > 0;
  }

  /** The identity a name stands for now: the one with the most available providers, ties to the lowest id. */
  identityOf(name: string): string | null {
    return this.#index.identityOf(name);
  }

  /** How many could serve a model now, cooling ones included. */
  servingCount(name: string, modelId: string | null): number {
    return this.#index.servingCount(this.#identities(name, modelId));
  }

  /**
   * Some of the best that `accept` takes, and of `wanted` providers all that it takes. When none is found,
   * `accept` has seen every one that could serve the model.
   */
  shortlist(
    { name, modelId, wanted }: { name: string; modelId: string | null; wanted: Iterable<string> },
    random: Random,
    accept: (offered: Offered) => boolean,
  ): Offered[] {
    const identities = this.#identities(name, modelId);
    const asked = new Set<Offered>();
    const found = this.#index.shortlist(identities, random, (offered) => {
      asked.add(offered);
      return accept(offered);
    });
    for (const providerId of wanted) {
      for (const identity of identities) {
        const offered = this.#index.get(keyOf(providerId, identity));
        if (offered === undefined || asked.has(offered)) continue;
        if (offered.entry.standingOf(identity) !== "away" && accept(offered)) found.push(offered);
      }
    }
    return found;
  }

  #identities(name: string, modelId: string | null): readonly string[] {
    return modelId === null ? this.#index.identitiesOf(name) : [modelId];
  }

  wasKnown(name: string): boolean {
    return this.#knownNames.has(name);
  }

  /** Who could serve a model now, as the router wants to know it. */
  candidates(name: string, modelId: string | null): Candidate[] {
    return this.offersOf(name)
      .filter(({ offer }) => modelId === null || offer.modelId === modelId)
      .filter(({ entry, offer }) => {
        const { state } = entry.served(offer.modelId).health;
        return entry.session.status.ready && (state === "proved" || state === "cooling");
      })
      .map((offered) => this.candidateOf(offered));
  }

  /**
   * An offer as one decision sees it: one that failed lately is a last resort now and then, and only then do its
   * failures count.
   *
   * @param expectedTokens of the prompt that its cache should hold, as far as this gateway knows
   * @param isBatch for a line of a batch: what runs for batches is in nobody's way else
   */
  candidateOf(offered: Offered, expectedTokens = 0, isBatch = false): Candidate {
    const { entry, offer } = offered;
    const slots = offer.parallelMax;
    const present = isBatch
      ? slots - entry.freeForBatch(slots, this.policy, this.#deps.clock.monotonicMs())
      : entry.present;
    const candidate = this.#trusted(candidateOf(offered, this.policy, expectedTokens, present));
    const share = this.#reliability.share(candidate.providerId);
    if (share === 1 || this.#deps.random.next() <= share) return candidate;
    return { ...candidate, failureShare: 1 - share, cooling: true };
  }

  #trusted(candidate: Candidate): Candidate {
    if (this.#trust === null) return candidate;
    return { ...candidate, trust: this.#trust.routing(candidate.providerId) };
  }

  /** Whether an audit proved that it answered wrongly for this model. */
  isExcluded(providerId: string, modelId: string): boolean {
    return this.#trust?.isExcluded(providerId, modelId) ?? false;
  }

  /** What is known of a provider has changed. */
  trustChanged(providerId: string): void {
    const entry = this.#entries.get(providerId);
    if (entry !== undefined) this.#reindex(entry);
  }

  entryOf(providerId: string): ProviderEntry | undefined {
    return this.#entries.get(providerId);
  }

  /**
   * An answer was completed: the best proof there is.
   *
   * @param isBeside whether it waited for its first token beside lines of batches; null: it was one
   */
  reportAnswer(
    entry: ProviderEntry,
    modelId: string,
    observation: Observation,
    isBeside: boolean | null = null,
  ): void {
    if (isBeside !== null && observation.lateness !== undefined) {
      entry.beside.learn(observation.lateness, isBeside);
    }
    const { pace } = entry.served(modelId);
    const paceShare = paceShareOf(pace, observation);
    entry.pace.learn(observation);
    pace.learn(observation);
    this.reportService(entry, modelId, paceShare);
  }

  /** Something was done as it should be. @param paceShare delivered by promised pace; 1 where it says nothing of that */
  reportService(entry: ProviderEntry, modelId: string, paceShare = 1): void {
    const served = entry.served(modelId);
    entry.completed += 1;
    this.#trust?.completed(entry.session.providerId, paceShare);
    served.failuresInARow = 0;
    served.provedAtMs = this.#deps.clock.monotonicMs();
    if (served.health.state === "cooling") {
      served.health.cancel();
      served.health = { state: "proved" };
    }
    this.#reindex(entry);
  }

  /** An attempt ended, however it did: its slot is free. */
  reportRoom(): void {
    this.#changed();
  }

  /** An attempt failed through the provider's fault: the model there is put aside, and probed before it is back. */
  reportFailure(entry: ProviderEntry, modelId: string, error: SkeinError): void {
    const { providerId } = entry.session;
    if (this.#entries.get(providerId) !== entry) return;
    entry.failed += 1;
    this.#trust?.aborted(providerId);
    const served = entry.served(modelId);
    if (served.health.state === "cooling") return;
    served.failuresInARow += 1;
    this.#reliability.failed(providerId);
    const pauseMs = Math.min(coolingMaxMs, coolingMinMs * 2 ** (served.failuresInARow - 1));
    const delayMs = Math.round(pauseMs * (1 - coolingJitter * this.#deps.random.next()));
    const cancel = this.#deps.clock.schedule(delayMs, () => {
      served.health = { state: "unproved" };
      this.#prove(entry);
    });
    served.health = { state: "cooling", reason: error.message, cancel };
    this.#reindex(entry);
    this.#deps.log.warn(
      { provider: providerId, modelId, code: error.code, reason: error.message, delayMs },
      "provider is put aside",
    );
  }

  close(): void {
    this.#cancelSweep();
    for (const { session } of this.entries) session.close("the gateway stops");
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }

  #sessionChanged(entry: ProviderEntry): void {
    entry.reported();
    entry.forgetWithdrawn();
    if (entry.session.status.ready) this.#prove(entry);
    else entry.engineWentAway();
    this.#reindex(entry);
    this.#changed();
  }

  /** Puts a provider's offers where they belong by what is known now. */
  #reindex(entry: ProviderEntry): void {
    if (this.#entries.get(entry.session.providerId) !== entry) return;
    const withdrawn = new Set(entry.indexed);
    for (const offer of entry.models) {
      const { modelId } = offer;
      withdrawn.delete(modelId);
      entry.indexed.add(modelId);
      const offered = { entry, offer };
      const { scoreMs } = predict(
        this.#trusted(candidateOf(offered, this.policy)),
        typicalRequest,
        this.policy,
      );
      this.#index.set(
        keyOf(entry.session.providerId, modelId),
        offered,
        offer,
        entry.standingOf(modelId),
        scoreMs,
      );
    }
    for (const modelId of withdrawn) this.#remove(entry, modelId);
  }

  #unindex(entry: ProviderEntry): void {
    for (const modelId of entry.indexed) this.#remove(entry, modelId);
  }

  #remove(entry: ProviderEntry, modelId: string): void {
    entry.indexed.delete(modelId);
    this.#index.delete(keyOf(entry.session.providerId, modelId));
  }

  #prove(entry: ProviderEntry): void {
    if (entry.session.closed || !entry.session.status.ready) return;
    for (const offer of entry.models) {
      const served = entry.served(offer.modelId);
      if (served.health.state !== "unproved") continue;
      // Every probe of an upstream may cost its owner money: one per session is enough.
      if (offer.engine === "openai" && served.wasProved) served.health = { state: "proved" };
      else void this.#probe(entry, offer);
    }
    this.#reindex(entry);
  }

  #scheduleSweep(): void {
    this.#cancelSweep = this.#deps.clock.schedule(sweepMs, () => {
      for (const entry of this.entries) {
        this.#uptime.look(entry.session.providerId, entry.session.status.ready);
        this.#proveAgain(entry);
      }
      this.#regions.look(this.entries);
      this.#scheduleSweep();
    });
  }

  /** Probes what has had no work for a while. It stays available meanwhile: nothing speaks against it. */
  #proveAgain(entry: ProviderEntry): void {
    if (!entry.session.status.ready || entry.inFlight > 0) return;
    const nowMs = this.#deps.clock.monotonicMs();
    for (const offer of entry.models) {
      const served = entry.served(offer.modelId);
      // Every probe of an upstream may cost its owner money.
      if (offer.engine === "openai" || served.health.state !== "proved") continue;
      if (nowMs - served.provedAtMs < provedMs) continue;
      served.provedAtMs = nowMs;
      void this.#probe(entry, offer);
    }
  }

  async #probe(entry: ProviderEntry, offer: ModelOffer): Promise<void> {
    const served = entry.served(offer.modelId);
    if (served.health.state !== "proved") served.health = { state: "probing" };
    try {
      const answeredMs = await probe(this.#deps, entry.session, offer);
      if (answeredMs !== null) {
        // The router adds the present round trip by itself.
        const ttftMs = Math.max(0, answeredMs - (entry.session.roundTripMs ?? 0));
        served.pace.ttftMs ??= ttftMs;
        entry.pace.ttftMs ??= ttftMs;
      }
      served.wasProved = true;
      served.provedAtMs = this.#deps.clock.monotonicMs();
      this.#know(offer);
      // Real work may have failed meanwhile.
      if (isCooling(served.health)) return;
      served.health = { state: entry.session.status.ready ? "proved" : "unproved" };
      this.#deps.log.info(
        { provider: entry.session.providerId, model: offer.name, answeredMs },
        "provider answered the probe",
      );
      this.#reindex(entry);
      this.#changed();
    } catch (error) {
      this.reportFailure(entry, offer.modelId, toSkeinError(error, "provider_failed"));
    }
  }

  #know({ name, modelId }: ModelOffer): void {
    if (this.#knownNames.size < knownNamesMax) this.#knownNames.add(name).add(modelId);
  }
}

function isCooling({ state }: Health): boolean {
  return state === "cooling";
}

function keyOf(providerId: string, modelId: string): string {
  return `${providerId}\n${modelId}`;
}
