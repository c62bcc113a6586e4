/**
 * A market of providers and auditors in simulated time, with seeds: honest ones, cheats, cheats that come back under new
 * names, providers that break off, auditors that are lazy or look away. It checks what the formulas of `economics.ts`
 * promise, together with reputation and audit probabilities as they are used.
 */
import type { Random } from "../util/random.ts";
import type { Stakes } from "./economics.ts";
import { type AuditPolicy, defaultAuditPolicy } from "./probability.ts";
import {
  defaultReputationPolicy,
  newRecord,
  record,
  type ReputationRecord,
  standingOf,
} from "./reputation.ts";

export type ProviderKind = "honest" | "cheat" | "sybil" | "colluder" | "aborter";
export type AuditorKind = "awake" | "lazy" | "colluding";

export interface MarketOptions extends Omit<Stakes, "auditProbability" | "colludingShare"> {
  readonly stake: number;
  /** Cost of an honest answer; what is not spent is profit. */
  readonly cost: number;
  readonly providers: Readonly<Record<ProviderKind, number>>;
  readonly auditors: Readonly<Record<AuditorKind, number>>;
  /** Share of answers that those who cheat cheat in, and that those who break off break off. */
  readonly cheatShare: number;
  readonly abortShare: number;
  /** Part of its cost that an answer has taken when it breaks off. */
  readonly abortCost: number;
  readonly windows: number;
  /** All providers' answers of a challenge window, per provider. */
  readonly answersPerWindow: number;
  readonly windowMs: number;
  /** Of all audits. */
  readonly plantedShare: number;
  readonly auditReward: number;
  readonly auditCost: number;
  readonly auditorBond: number;
  readonly policy: AuditPolicy;
}

export const defaultMarket: MarketOptions = {
  gain: 0.8,
  fee: 1,
  detection: 1,
  escrow: true,
  stake: 89,
  cost: 0.9,
  providers: { honest: 10, cheat: 2, sybil: 2, colluder: 2, aborter: 2 },
  auditors: { awake: 8, lazy: 1, colluding: 1 },
  cheatShare: 0.1,
  abortShare: 0.2,
  abortCost: 0.5,
  windows: 200,
  answersPerWindow: 20,
  windowMs: 3600_000,
  plantedShare: 0.05,
  auditReward: 0.3,
  auditCost: 0.2,
  auditorBond: 20,
  policy: defaultAuditPolicy,
};

interface Provider {
  readonly kind: ProviderKind;
  record: ReputationRecord;
  profit: number;
  answers: number;
  slashed: number;
  isOut: boolean;
}

interface AuditorState {
  readonly kind: AuditorKind;
  profit: number;
  audits: number;
  dismissed: number;
}

/** Means over the providers or auditors of a kind. */
export interface KindResult {
  readonly profit: number;
  /** Profit by honest answers given, in fees: what a unit of work brings. */
  readonly profitPerAnswer: number;
  readonly answers: number;
  /** Times slashed, or dismissed. */
  readonly losses: number;
}

export interface MarketResult {
  readonly providers: Readonly<Record<ProviderKind, KindResult>>;
  readonly auditors: Readonly<Record<AuditorKind, KindResult>>;
  readonly audits: number;
  readonly cheated: number;
  /** Audits by the answers that were given. */
  readonly auditShare: number;
}

export function simulateMarket(options: MarketOptions, random: Random): MarketResult {
  const providers = make(options.providers, (kind): Provider => ({
    kind,
    record: newRecord(0),
    profit: 0,
    answers: 0,
    slashed: 0,
    isOut: false,
  }));
  const auditors = make(options.auditors, (kind): AuditorState => ({
    kind,
    profit: 0,
    audits: 0,
    dismissed: 0,
  }));
  let audits = 0;
  let cheated = 0;
  for (let window = 1; window <= options.windows; window++) {
    const nowMs = window * options.windowMs;
    for (const share of sharesOf(providers, options, nowMs)) {
      const outcome = serveWindow(share, options, auditors, random, nowMs);
      audits += outcome.audits;
      cheated += outcome.cheated;
    }
  }
  const answers = providers.reduce((sum, one) => sum + one.answers, 0);
  return {
    providers: summary(options.providers, providers, (one) => [one.profit, one.answers, one.slashed]),
    auditors: summary(options.auditors, auditors, (one) => [one.profit, one.audits, one.dismissed]),
    audits,
    cheated,
    auditShare: answers === 0 ? 0 : audits / answers,
  };
}

interface WindowShare {
  readonly provider: Provider;
  readonly answers: number;
  readonly auditProbability: number;
}

/** Work goes to providers in proportion to trust, so far as they still take part. */
function sharesOf(providers: readonly Provider[], options: MarketOptions, nowMs: number): WindowShare[] {
  const active = providers.filter(({ isOut }) => !isOut);
  const forfeit = options.stake + (options.escrow ? options.fee * options.answersPerWindow : 0);
  const standings = active.map((provider) =>
    standingOf(
      provider.record,
      nowMs,
      {
        tier: "exact",
        // In millionths of a fee: amounts are whole numbers there.
        feeNanoUsd: BigInt(Math.round(options.fee * 1e6)),
        forfeitNanoUsd: BigInt(Math.round(forfeit * 1e6)),
        evidence: 1,
      },
      { reputation: defaultReputationPolicy, audit: options.policy },
    ),
  );
  const total = standings.reduce((sum, { trust }) => sum + trust, 0);
  return active.map((provider, i) => ({
    provider,
    answers: Math.round((options.answersPerWindow * active.length * standings[i]!.trust) / total),
    auditProbability: standings[i]!.audit.probability,
  }));
}

/** One challenge window of one provider: all answers first, then their audits, then money. */
function serveWindow(
  { provider, answers, auditProbability }: WindowShare,
  options: MarketOptions,
  auditors: readonly AuditorState[],
  random: Random,
  nowMs: number,
): { audits: number; cheated: number } {
  const cheats = ["cheat", "sybil", "colluder"].includes(provider.kind);
  let escrow = 0;
  let isProved = false;
  let audits = 0;
  let cheated = 0;
  for (let i = 0; i < answers; i++) {
    if (provider.kind === "aborter" && random.next() < options.abortShare) {
      provider.profit -= options.abortCost * options.cost;
      provider.record = record(provider.record, { type: "aborted", weight: 1 }, nowMs);
      continue;
    }
    const isCheat = cheats && random.next() < options.cheatShare;
    if (isCheat) cheated += 1;
    provider.answers += 1;
    provider.profit -= isCheat ? options.cost - options.gain : options.cost;
    escrow += options.fee;
    provider.record = record(provider.record, { type: "completed", paceShare: 1, weight: 1 }, nowMs);
    if (random.next() >= auditProbability) continue;
    audits += 1;
    const isFound = audit(provider, isCheat, auditors, options, random);
    if (isFound) isProved = true;
    else provider.record = record(provider.record, { type: "audit", finding: "none" }, nowMs);
  }
  if (!isProved) provider.profit += escrow;
  else slash(provider, escrow, options, nowMs);
  return { audits, cheated };
}

/** The answer of an auditor drawn by lot; true: proved wrong. */
function audit(
  provider: Provider,
  isCheat: boolean,
  auditors: readonly AuditorState[],
  options: MarketOptions,
  random: Random,
): boolean {
  const auditor = auditors[Math.floor(random.next() * auditors.length)];
  if (auditor === undefined) return false;
  auditor.audits += 1;
  auditor.profit += options.auditReward - (auditor.kind === "lazy" ? 0 : options.auditCost);
  // A planted fault takes the place of another audit now and then.
  if (auditor.kind === "lazy" && random.next() < options.plantedShare) {
    auditor.profit -= options.auditorBond;
    auditor.dismissed += 1;
  }
  if (!isCheat || auditor.kind === "lazy") return false;
  if (auditor.kind === "colluding" && provider.kind === "colluder") return false;
  return random.next() < options.detection;
}

/** A cheat goes on as a newcomer with a new stake; a provider without money to stake is out, but profit tells as well. */
function slash(provider: Provider, escrow: number, options: MarketOptions, nowMs: number): void {
  provider.slashed += 1;
  provider.profit += (options.escrow ? 0 : escrow) - options.stake;
  if (provider.kind === "sybil") provider.record = newRecord(nowMs);
  else provider.record = record(provider.record, { type: "audit", finding: "proved" }, nowMs);
  provider.isOut = provider.kind !== "sybil";
}

function make<K extends string, T>(counts: Readonly<Record<K, number>>, one: (kind: K) => T): T[] {
  return (Object.entries(counts) as [K, number][]).flatMap(([kind, count]) =>
    Array.from({ length: count }, () => one(kind)),
  );
}

function summary<K extends string, T extends { readonly kind: K }>(
  counts: Readonly<Record<K, number>>,
  all: readonly T[],
  of: (one: T) => readonly [profit: number, answers: number, losses: number],
): Readonly<Record<K, KindResult>> {
  const entries = (Object.keys(counts) as K[]).map((kind) => {
    const some = all.filter((one) => one.kind === kind).map(of);
    const mean = (i: 0 | 1 | 2): number =>
      some.length === 0 ? 0 : some.reduce((sum, values) => sum + values[i], 0) / some.length;
    const [profit, answers, losses] = [mean(0), mean(1), mean(2)];
    return [kind, { profit, profitPerAnswer: answers === 0 ? 0 : profit / answers, answers, losses }];
  });
  return Object.fromEntries(entries) as Readonly<Record<K, KindResult>>;
}
