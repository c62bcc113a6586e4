import type { ProviderSession } from "../network/session.ts";
import type { ModelOffer } from "../protocol/offer.ts";
import { Pace } from "../router/pace.ts";

import { Work } from "./work.ts";

/** How far one model of a provider can be trusted to answer. */
export type Health =
  /** Nobody has asked it yet, or its engine was away since. */
  | { readonly state: "unproved" }
  | { readonly state: "probing" }
  /** It answered a real request, and has not failed since. */
  | { readonly state: "proved" }
  /** Put aside after a failure, until `cancel`'s timer fires. */
  | { readonly state: "cooling"; readonly reason: string; readonly cancel: () => void };

/** One model at one provider. */
export class ServedModel {
  readonly pace: Pace = new Pace();
  health: Health = { state: "unproved" };
  failuresInARow = 0;
  /** When it last answered work or a probe. */
  provedAtMs = 0;
  /** Whether it ever answered the probe in this session. */
  wasProved = false;
}

/** One joined provider and what this gateway has seen of it. */
export class ProviderEntry {
  readonly session: ProviderSession;
  readonly joinedAtMs: number;
  /** Over all its models, for people. */
  readonly pace: Pace = new Pace();
  /** What the router made of it. */
  readonly work: Work = new Work();
  /** Tokens of prompts that were sent there and have no answer yet. */
  unreadTokens = 0;
  completed = 0;
  failed = 0;
  /** Models that stand in the directory's index. */
  readonly indexed: Set<string> = new Set();
  /** Called when `inFlight` changed. */
  onLoad: () => void = () => undefined;
  #inFlight = 0;
  readonly #served = new Map<string, ServedModel>();

  constructor(session: ProviderSession, joinedAtMs: number) {
    this.session = session;
    this.joinedAtMs = joinedAtMs;
  }

  /** Attempts of this gateway that run there now. */
  get inFlight(): number {
    return this.#inFlight;
  }
  set inFlight(count: number) {
    this.#inFlight = count;
    this.onLoad();
  }

  get models(): readonly ModelOffer[] {
    return this.session.offer?.models ?? [];
  }

  served(modelId: string): ServedModel {
    let served = this.#served.get(modelId);
    if (served === undefined) this.#served.set(modelId, (served = new ServedModel()));
    return served;
  }

  /** Drops what is known of models that are no longer offered, so that this stays as small as the offer. */
  forgetWithdrawn(): void {
    const offered = new Set(this.models.map(({ modelId }) => modelId));
    for (const [modelId, { health }] of this.#served) {
      if (offered.has(modelId) || health.state === "probing") continue;
      if (health.state === "cooling") health.cancel();
      this.#served.delete(modelId);
    }
  }

  /** Its engine restarts: what was proved before says nothing about after. */
  engineWentAway(): void {
    for (const served of this.#served.values()) {
      if (served.health.state === "proved") served.health = { state: "unproved" };
    }
  }

  isAvailable(modelId: string): boolean {
    return (
      !this.session.closed && this.session.status.ready && this.served(modelId).health.state === "proved"
    );
  }

  stopTimers(): void {
    for (const { health } of this.#served.values()) {
      if (health.state === "cooling") health.cancel();
    }
  }
}
