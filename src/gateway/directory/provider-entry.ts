import type { ProviderSession } from "../../network/session.ts";
import type { ModelOffer } from "../../protocol/offer.ts";
import type { DeclaredRegion } from "../../router/hints.ts";
import type { Standing } from "../../router/offer-index.ts";
import type { RegionDoubt } from "../../router/regions.ts";
import { BesideShare } from "../../router/beside.ts";
import { Pace } from "../../router/pace.ts";
import type { RoutingPolicy } from "../../router/policy.ts";

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

export interface JudgedRegion {
  readonly region: string;
  readonly doubt: RegionDoubt | null;
}

type BatchShare = Pick<RoutingPolicy, "batchBeside" | "batchHoldMs">;

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
  /** The region that it declared when that was compared with its round trips, and what came of it; null: it was not yet. */
  judged: JudgedRegion | null = null;
  /** Called when `inFlight` changed. */
  onLoad: () => void = () => undefined;
  #inFlight = 0;
  /** The most of them since the provider's last report. */
  #peakInFlight = 0;
  /** Requests there that are not this gateway's, by that report. */
  #others = 0;
  /** When somebody who waits came or left last. */
  #waitedForMs = Number.NEGATIVE_INFINITY;
  /** What others note of batches beside them. */
  readonly beside: BesideShare = new BesideShare();
  /** Attempts for batches that run there: each can be told to make room. */
  readonly #yielding = new Set<() => void>();
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
    this.#peakInFlight = Math.max(this.#peakInFlight, count);
    this.onLoad();
  }

  /** The provider said how much it has to do. */
  reported(): void {
    const { active, queued } = this.session.status;
    this.#others = Math.max(0, active + queued - this.#peakInFlight);
    this.#peakInFlight = this.#inFlight;
  }

  /**
   * Requests there, for somebody who waits: by the provider's report, which may be a moment old, or what this gateway
   * knows; without those that make room.
   */
  get present(): number {
    const { active, queued } = this.session.status;
    return Math.max(0, Math.max(active + queued, this.#inFlight) - this.#yielding.size);
  }

  /**
   * Slots for a batch's next line: what is free at once, not when the provider reports it; beside somebody who waits, or
   * did a moment ago, only a share of all.
   */
  freeForBatch(slots: number, { batchBeside, batchHoldMs }: BatchShare, nowMs: number): number {
    const waitedFor = this.#inFlight - this.#yielding.size + this.#others;
    const isHeld = waitedFor > 0 || nowMs - this.#waitedForMs < batchHoldMs;
    const allowed = isHeld ? this.#besideSlots(slots, batchBeside) : slots;
    return Math.max(0, Math.min(slots - this.#inFlight - this.#others, allowed - this.#yielding.size));
  }

  /** An attempt for a batch began. @returns a function to call when it ended */
  addYielding(makeRoom: () => void): () => void {
    this.#yielding.add(makeRoom);
    return () => this.#yielding.delete(makeRoom);
  }

  /**
   * Somebody who waits has come: where all slots are taken, and beyond the share that is left to them beside others,
   * attempts for batches make room. Those that began last lose least.
   */
  makeRoom(slots: number, { batchBeside }: BatchShare, nowMs: number): void {
    this.#waitedForMs = nowMs;
    const { active, queued } = this.session.status;
    const isFull = Math.max(active + queued + 1, this.#inFlight) > slots;
    const tooMany = this.#yielding.size - this.#besideSlots(slots, batchBeside);
    const leaving = [...this.#yielding].toReversed().slice(0, Math.max(0, Number(isFull), tooMany));
    for (const leave of leaving) {
      this.#yielding.delete(leave);
      leave();
    }
  }

  #besideSlots(slots: number, shareMax: number): number {
    return Math.min(Math.floor(slots * shareMax), Math.ceil(slots * this.beside.share));
  }

  /** Whether batches have attempts running there. */
  get hasYielding(): boolean {
    return this.#yielding.size > 0;
  }

  /** Somebody who waited has the whole answer, or gave up. */
  waitedFor(nowMs: number): void {
    this.#waitedForMs = nowMs;
  }

  get region(): DeclaredRegion {
    return { name: this.session.offer?.region ?? "", isDoubtful: this.regionDoubt !== null };
  }

  get isRegionJudged(): boolean {
    return this.judged !== null && this.judged.region === this.session.offer?.region;
  }

  /** Why it cannot be where it says; null: nothing speaks against it. */
  get regionDoubt(): RegionDoubt | null {
    return this.isRegionJudged ? this.judged!.doubt : null;
  }

  /** Empty: it declares none, or one that its round trip contradicts. */
  get believedRegion(): string {
    return this.regionDoubt === null ? (this.session.offer?.region ?? "") : "";
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

  /** How one of its models stands in the directory's index. */
  standingOf(modelId: string): Standing {
    const { state } = this.served(modelId).health;
    if (!this.session.status.ready) return "away";
    return state === "proved" ? "available" : state === "cooling" ? "cooling" : "away";
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

/** One model at one provider. */
export interface Offered {
  readonly entry: ProviderEntry;
  readonly offer: ModelOffer;
}
