/**
 * What a provider's past says about its next answer. Evidence fades with a half-life; more of it counts more, and nobody
 * gains by splitting it over several identities: a share of the evidence never gives more than that share of the work
 * (along e → λe trust never falls, so Σ 1/k · trust(e/k) ≤ trust(e)). Hence newcomers stand lowest: whoever could start
 * anew above its own record would (Friedman and Resnick, "The Social Cost of Cheap Pseudonyms", 2001).
 */
import {
  type AuditPolicy,
  auditProbability,
  type AuditProbability,
  defaultAuditPolicy,
} from "./probability.ts";
import { shareOne } from "./selection.ts";

export interface ReputationPolicy {
  /** After this time half of the evidence of service is forgotten. */
  readonly serviceHalfLifeMs: number;
  /** Failed audits are remembered longer. */
  readonly auditHalfLifeMs: number;
  /** Trust without history; also the least that anyone has who is not suspended. */
  readonly newcomerTrust: number;
  /** Completed answers after which half of the way up is done. */
  readonly halfwayAnswers: number;
  /** An answer that broke off outweighs so many completed ones. */
  readonly abortWeight: number;
  /** An improbable answer (statistics) outweighs so many clean audits. */
  readonly improbableWeight: number;
  /** Suspended while more than this is left of proved failures: two and a half half-lives for a single one. */
  readonly suspendedAbove: number;
  /** Trust from which on a provider is called trusted. */
  readonly trustedFrom: number;
  /** A price counts at most this often. */
  readonly priceWeightMax: number;
}

const dayMs = 24 * 3600_000;

export const defaultReputationPolicy: ReputationPolicy = {
  serviceHalfLifeMs: 7 * dayMs,
  auditHalfLifeMs: 30 * dayMs,
  newcomerTrust: 0.2,
  halfwayAnswers: 50,
  abortWeight: 5,
  improbableWeight: 20,
  suspendedAbove: 2 ** -2.5,
  trustedFrom: 0.75,
  priceWeightMax: 4,
};

/** Decayed sums; JSON-able, so that any store can hold it. */
export interface ReputationRecord {
  readonly atMs: number;
  readonly completed: number;
  readonly aborted: number;
  /** Sum over completed answers of delivered pace by promised pace, each at most 1. */
  readonly pace: number;
  /** Milliseconds seen up and down. */
  readonly upMs: number;
  readonly downMs: number;
  readonly auditsPassed: number;
  /** Found by statistics: de-ranks, never suspends. */
  readonly auditsImprobable: number;
  /** Proved. */
  readonly auditsFailed: number;
  /** Passed since the last one that did not; decayed as well, so that who was away is looked at again. */
  readonly cleanAudits: number;
}

export type ReputationEvent =
  /**
   * `paceShare`: delivered by promised tokens per second. `weight` is below 1 where one payer makes up most of the
   * provider's history: work that a provider buys from itself must not build trust.
   */
  | { readonly type: "completed"; readonly paceShare: number; readonly weight: number }
  | { readonly type: "aborted"; readonly weight: number }
  | { readonly type: "observed"; readonly upMs: number; readonly downMs: number }
  | { readonly type: "audit"; readonly finding: "none" | "improbable" | "proved" };

export function newRecord(nowMs: number): ReputationRecord {
  return {
    atMs: nowMs,
    completed: 0,
    aborted: 0,
    pace: 0,
    upMs: 0,
    downMs: 0,
    auditsPassed: 0,
    auditsImprobable: 0,
    auditsFailed: 0,
    cleanAudits: 0,
  };
}

/** The record with one more event; times before the last one count as the last one. */
export function record(
  before: ReputationRecord,
  event: ReputationEvent,
  nowMs: number,
  policy: ReputationPolicy = defaultReputationPolicy,
): ReputationRecord {
  const now = decayed(before, nowMs, policy);
  switch (event.type) {
    case "completed": {
      const weight = share(event.weight);
      const pace = now.pace + weight * share(event.paceShare);
      return { ...now, completed: now.completed + weight, pace };
    }
    case "aborted":
      return { ...now, aborted: now.aborted + share(event.weight) };
    case "observed":
      return { ...now, upMs: now.upMs + event.upMs, downMs: now.downMs + event.downMs };
    case "audit":
      return withAudit(now, event.finding);
  }
}

function withAudit(now: ReputationRecord, finding: "none" | "improbable" | "proved"): ReputationRecord {
  if (finding === "none")
    return { ...now, auditsPassed: now.auditsPassed + 1, cleanAudits: now.cleanAudits + 1 };
  return finding === "proved"
    ? { ...now, auditsFailed: now.auditsFailed + 1, cleanAudits: 0 }
    : { ...now, auditsImprobable: now.auditsImprobable + 1, cleanAudits: 0 };
}

function decayed(before: ReputationRecord, nowMs: number, policy: ReputationPolicy): ReputationRecord {
  const passedMs = Math.max(0, nowMs - before.atMs);
  const service = 2 ** -(passedMs / policy.serviceHalfLifeMs);
  const audit = 2 ** -(passedMs / policy.auditHalfLifeMs);
  return {
    atMs: Math.max(nowMs, before.atMs),
    completed: before.completed * service,
    aborted: before.aborted * service,
    pace: before.pace * service,
    upMs: before.upMs * service,
    downMs: before.downMs * service,
    auditsPassed: before.auditsPassed * audit,
    auditsImprobable: before.auditsImprobable * audit,
    auditsFailed: before.auditsFailed * audit,
    cleanAudits: before.cleanAudits * audit,
  };
}

function share(value: number): number {
  return Math.min(1, Math.max(0, value));
}

export type Standing = "suspended" | "newcomer" | "known" | "trusted";

export type FactorName = "history" | "honesty" | "completion" | "pace" | "uptime";

/** One reason for the trust; all of them multiply. */
export interface Factor {
  readonly name: FactorName;
  /** 0 to 1. */
  readonly value: number;
  /** What it was computed from, decayed. */
  readonly from: Readonly<Record<string, number>>;
}

export interface Standings {
  /** 0 to 1: what the router takes for trust. */
  readonly trust: number;
  readonly standing: Standing;
  /** What its price is multiplied by when prices are compared: work that has to be done again is paid twice. */
  readonly priceWeight: number;
  readonly audit: AuditProbability;
  /** Worst first. */
  readonly factors: readonly Factor[];
}

/** What the audit probability needs besides the record. */
export interface AtStake {
  readonly tier: "exact" | "float";
  readonly feeNanoUsd: bigint;
  readonly forfeitNanoUsd: bigint | null;
  readonly evidence: number;
}

/** What follows from a record at this time, with the reasons. */
export function standingOf(
  before: ReputationRecord,
  nowMs: number,
  atStake: AtStake,
  policies: { readonly reputation: ReputationPolicy; readonly audit: AuditPolicy } = {
    reputation: defaultReputationPolicy,
    audit: defaultAuditPolicy,
  },
): Standings {
  const policy = policies.reputation;
  const now = decayed(before, nowMs, policy);
  const factors = factorsOf(now, policy);
  const isSuspended = now.auditsFailed > policy.suspendedAbove;
  const product = factors.reduce((all, { value }) => all * value, 1);
  const trust = isSuspended ? 0 : policy.newcomerTrust + (1 - policy.newcomerTrust) * product;
  const quality = factors.filter(({ name }) => name !== "history").reduce((all, { value }) => all * value, 1);
  return {
    trust,
    standing: isSuspended ? "suspended" : standingFor(trust, now, policy),
    priceWeight: Math.min(policy.priceWeightMax, 1 / Math.max(quality, 1 / policy.priceWeightMax)),
    audit: isSuspended
      ? { probability: 1, share: shareOne, reason: "suspended" }
      : auditProbability({ ...atStake, cleanAudits: now.cleanAudits }, policies.audit),
    factors: factors.toSorted((a, b) => a.value - b.value),
  };
}

function standingFor(trust: number, now: ReputationRecord, policy: ReputationPolicy): Standing {
  if (trust >= policy.trustedFrom) return "trusted";
  return now.completed < policy.halfwayAnswers / 5 ? "newcomer" : "known";
}

/** All but `history` are ratios: they stay what they are when evidence is split. */
function factorsOf(now: ReputationRecord, policy: ReputationPolicy): Factor[] {
  const { completed, aborted, pace, upMs, downMs, auditsPassed, auditsImprobable, auditsFailed } = now;
  const bad = auditsImprobable + auditsFailed;
  return [
    { name: "history", value: completed / (completed + policy.halfwayAnswers), from: { completed } },
    {
      name: "honesty",
      value: ratio(auditsPassed, auditsPassed + policy.improbableWeight * bad),
      from: { passed: auditsPassed, improbable: auditsImprobable, proved: auditsFailed },
    },
    {
      name: "completion",
      value: ratio(completed, completed + policy.abortWeight * aborted),
      from: { completed, aborted },
    },
    { name: "pace", value: ratio(pace, completed), from: { delivered: pace, promised: completed } },
    { name: "uptime", value: ratio(upMs, upMs + downMs), from: { upMs, downMs } },
  ];
}

/** 1 where nothing is known: `history` already says so. */
function ratio(good: number, all: number): number {
  return all === 0 ? 1 : good / all;
}
