/** The live table of providers: who is joined, what they offer, how they did lately. */
import type { ProviderSession } from "../network/session.ts";
import type { ModelOffer } from "../protocol/offer.ts";
import type { Candidate } from "../router/plan.ts";
import { type SkeinError, toSkeinError } from "../util/errors.ts";
import type { GatewayDeps } from "./options.ts";
import { probe } from "./probe.ts";

/** Weight of the newest observation. */
const smoothing = 0.25;
const coolingMinMs = 1_000;
const coolingMaxMs = 60_000;

export interface Observation {
  readonly ttftMs: number;
  readonly answerMs: number;
  readonly outputTokens: number;
}

/** One joined provider and what this gateway has seen of it. */
export class ProviderEntry {
  readonly session: ProviderSession;
  readonly joinedAtMs: number;
  /** Identities that answered a real probe since the last failure. */
  readonly proved = new Set<string>();
  readonly probing = new Set<string>();
  inFlight = 0;
  completed = 0;
  failed = 0;
  ttftMs: number | null = null;
  answerMs: number | null = null;
  tokensPerSecond: number | null = null;
  /** Set while it recovers from a failure. */
  cooling: { reason: string; cancel: () => void } | null = null;
  failuresInARow = 0;

  constructor(session: ProviderSession, joinedAtMs: number) {
    this.session = session;
    this.joinedAtMs = joinedAtMs;
  }

  get models(): readonly ModelOffer[] {
    return this.session.offer?.models ?? [];
  }

  isAvailable(modelId: string): boolean {
    return (
      !this.session.closed && this.session.status.ready && this.cooling === null && this.proved.has(modelId)
    );
  }

  learn({ ttftMs, answerMs, outputTokens }: Observation): void {
    this.completed += 1;
    this.failuresInARow = 0;
    this.ttftMs = blend(this.ttftMs, ttftMs);
    this.answerMs = blend(this.answerMs, answerMs);
    const decodeMs = answerMs - ttftMs;
    if (outputTokens > 1 && decodeMs > 0) {
      this.tokensPerSecond = blend(this.tokensPerSecond, ((outputTokens - 1) / decodeMs) * 1000);
    }
  }
}

function blend(old: number | null, next: number): number {
  return old === null ? next : old + smoothing * (next - old);
}

export class Directory {
  readonly #deps: GatewayDeps;
  readonly #entries = new Map<string, ProviderEntry>();
  /** Names that were served once: a request for them is answered 503, not 404, while nobody is there. */
  readonly #knownNames = new Set<string>();

  constructor(deps: GatewayDeps) {
    this.#deps = deps;
  }

  get entries(): readonly ProviderEntry[] {
    return [...this.#entries.values()];
  }

  /** Takes in a provider that joined; an older session of the same provider is closed. */
  add(session: ProviderSession): void {
    this.#entries.get(session.providerId)?.session.close("the same provider joined again");
    const entry = new ProviderEntry(session, this.#deps.clock.nowMs());
    this.#entries.set(session.providerId, entry);
    session.onChange(() => this.#prove(entry));
    session.onClose((reason) => {
      entry.cooling?.cancel();
      if (this.#entries.get(session.providerId) === entry) this.#entries.delete(session.providerId);
      this.#deps.log.info({ provider: session.providerId, reason }, "provider left");
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

  /** The identity a name stands for now: the one with the most available providers, ties to the lowest id. */
  identityOf(name: string): string | null {
    const available = new Map<string, number>();
    for (const { entry, offer } of this.offersOf(name)) {
      const count = available.get(offer.modelId) ?? 0;
      available.set(offer.modelId, count + (entry.isAvailable(offer.modelId) ? 1 : 0));
    }
    const best = [...available].toSorted(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))[0];
    return best?.[0] ?? null;
  }

  wasKnown(name: string): boolean {
    return this.#knownNames.has(name);
  }

  /** Who could serve a model now, as the router wants to know it. */
  candidates(name: string, modelId: string | null): Candidate[] {
    return this.offersOf(name)
      .filter(({ entry, offer }) => {
        const wanted = modelId === null || offer.modelId === modelId;
        return (
          wanted && entry.session.status.ready && (entry.proved.has(offer.modelId) || entry.cooling !== null)
        );
      })
      .map(({ entry, offer }) => candidateOf(entry, offer));
  }

  entryOf(providerId: string): ProviderEntry | undefined {
    return this.#entries.get(providerId);
  }

  /** An attempt failed through the provider's fault: it is put aside, and probed before it comes back. */
  reportFailure(providerId: string, error: SkeinError): void {
    const entry = this.#entries.get(providerId);
    if (entry === undefined) return;
    entry.failed += 1;
    if (entry.cooling !== null) return;
    entry.failuresInARow += 1;
    entry.proved.clear();
    const delayMs = Math.min(coolingMaxMs, coolingMinMs * 2 ** (entry.failuresInARow - 1));
    const cancel = this.#deps.clock.schedule(delayMs, () => {
      entry.cooling = null;
      this.#prove(entry);
    });
    entry.cooling = { reason: error.message, cancel };
    this.#deps.log.warn(
      { provider: providerId, code: error.code, reason: error.message, delayMs },
      "provider is put aside",
    );
  }

  close(): void {
    for (const { session } of this.entries) session.close("the gateway stops");
  }

  #prove(entry: ProviderEntry): void {
    if (entry.cooling !== null || entry.session.closed || !entry.session.status.ready) return;
    for (const offer of entry.models) {
      if (entry.proved.has(offer.modelId) || entry.probing.has(offer.modelId)) continue;
      entry.probing.add(offer.modelId);
      void this.#probe(entry, offer);
    }
  }

  async #probe(entry: ProviderEntry, offer: ModelOffer): Promise<void> {
    try {
      const ttftMs = await probe(this.#deps, entry.session, offer.modelId);
      entry.ttftMs ??= ttftMs;
      entry.proved.add(offer.modelId);
      this.#knownNames.add(offer.name).add(offer.modelId);
      this.#deps.log.info(
        { provider: entry.session.providerId, model: offer.name, ttftMs },
        "provider answered the probe",
      );
    } catch (error) {
      // A full provider is a healthy one that others keep busy.
      const failure = toSkeinError(error, "provider_failed");
      if (failure.code === "overloaded") entry.proved.add(offer.modelId);
      else this.reportFailure(entry.session.providerId, failure);
    } finally {
      entry.probing.delete(offer.modelId);
    }
  }
}

function matches(offer: ModelOffer, name: string): boolean {
  if (offer.name === name || offer.modelId === name) return true;
  const at = name.lastIndexOf("@");
  if (at <= 0 || offer.name !== name.slice(0, at)) return false;
  const hash = offer.modelId.slice(offer.modelId.indexOf(":") + 1);
  const prefix = name.slice(at + 1);
  return prefix.length >= 4 && hash.startsWith(prefix);
}

function candidateOf(entry: ProviderEntry, offer: ModelOffer): Candidate {
  const { status, roundTripMs, providerId } = entry.session;
  // Its report is a moment old; what this gateway has sent since counts too.
  const present = Math.max(status.active + status.queued, entry.inFlight);
  return {
    providerId,
    offer,
    active: Math.min(present, offer.parallelMax),
    queued: Math.max(0, present - offer.parallelMax),
    roundTripMs,
    ttftMs: entry.ttftMs,
    answerMs: entry.answerMs,
    cooling: entry.cooling !== null,
  };
}
