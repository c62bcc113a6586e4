/**
 * What a composition gives to audits and takes from them. The statistics, policies and records of this folder are pure;
 * whoever runs audits (a gateway, or a provider for others) implements these.
 */
import type { SignedEnvelope } from "../protocol/offer.ts";
import type { ScoreRequest } from "../engine/port.ts";
import type { Opening, Outcome, Verdict } from "./verdict.ts";

/** A receipt that was chosen, with what it takes to check it. */
export interface AuditTask {
  readonly providerId: string;
  readonly receiptHash: Uint8Array;
  readonly modelId: string;
  readonly tier: "exact" | "float";
  readonly round: number;
  /** As it was signed. */
  readonly receipt: SignedEnvelope;
  /** What was asked and what was answered; null where that is not shown to the auditor. */
  readonly claim: Omit<ScoreRequest, "chunkTokens"> | null;
  /** Tokens of the claim that earlier attempts delivered, and which are not this provider's. Absent: none. */
  readonly startPosition?: number;
}

/**
 * Receipts of rounds that are over. An implementation keeps what was received until its round's beacon is known,
 * applies `isSelected` with the provider's share of that time, and never gives a task to a machine of the same owner.
 */
export interface AuditSource {
  /** Tasks as they are chosen, planted ones among them and indistinguishable; ends when `signal` aborts. */
  tasks(signal: AbortSignal): AsyncIterable<AuditTask>;
}

/** Checks one receipt: exact receipts by replay and equality, float ones by margins (`Engine.score`). */
export interface Auditor {
  readonly auditorId: string;
  /**
   * Bounded in time; what cannot be checked is `unable`, never an exception, except `cancelled`.
   *
   * @returns the outcome, and `workRoot` of what was computed for it
   */
  audit(
    task: AuditTask,
    signal: AbortSignal,
  ): Promise<{ readonly outcome: Outcome; readonly work: Uint8Array }>;
}

/** Where verdicts are kept; append-only. */
export interface VerdictLog {
  /** Resolves when it is durable; the same verdict twice is kept once. */
  append(verdict: Verdict, envelope: SignedEnvelope): Promise<void>;
  appendOpening(opening: Opening, envelope: SignedEnvelope): Promise<void>;
  /** Verdicts about a provider, oldest first, from `sinceMs` on; at most `limit` of them. */
  about(providerId: string, sinceMs: number, limit: number): Promise<readonly Verdict[]>;
  /** Verdicts on one receipt with their openings, for comparing auditors. */
  on(
    receiptHash: Uint8Array,
  ): Promise<readonly { readonly verdict: Verdict; readonly opening: Opening | null }[]>;
}
