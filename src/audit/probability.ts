/** How often a provider's receipts are audited. One policy object; the reasons come with the result. */
import { type AuditShare, auditShare } from "./selection.ts";

export interface AuditPolicy {
  /** Of a provider without history. At 1/4 a newcomer that always cheats survives 10 answers in 6 % of cases. */
  readonly newcomerProbability: number;
  /** Clean audits in a row after which the probability is halved: it takes 24 to get from 1/4 to 1 %. */
  readonly cleanAuditsPerHalving: number;
  /** Never below: the stake that must be at risk grows with 1/p (`economics.ts`). */
  readonly floorProbability: number;
  /** What a provider gains by cheating once, as a share of the fee: a model that costs a fifth of the promised one. */
  readonly gainShare: number;
  /** Share of auditors assumed to collude with the provider. */
  readonly colludingShare: number;
  /** Chance that an audit finds what is wrong: 1 where every bit is compared, less where statistics decide. */
  readonly detection: Readonly<Record<"exact" | "float", number>>;
  /** Evidence W (`evidence.ts`) from which on every answer is audited; on the way there in proportion to log W. */
  readonly evidenceMax: number;
}

export const defaultAuditPolicy: AuditPolicy = {
  newcomerProbability: 0.25,
  cleanAuditsPerHalving: 5,
  floorProbability: 0.01,
  gainShare: 0.8,
  colludingShare: 0.1,
  detection: { exact: 1, float: 0.5 },
  evidenceMax: 1e3,
};

export interface AuditedParty {
  readonly tier: "exact" | "float";
  /** Since the last one that failed. */
  readonly cleanAudits: number;
  /** Of the answer in question. */
  readonly feeNanoUsd: bigint;
  /** What it would lose: stake and fees still in escrow. Null where nothing is staked; then reputation is all it has. */
  readonly forfeitNanoUsd: bigint | null;
  /** The largest W of its float-tier statistics; 1 without any. */
  readonly evidence: number;
}

/** What raised or set the probability. */
export type AuditReason = "newcomer" | "history" | "floor" | "value at risk" | "statistics" | "suspended";

export interface AuditProbability {
  readonly probability: number;
  readonly share: AuditShare;
  readonly reason: AuditReason;
}

/** Probability that an answer of this provider is audited: the largest of what history, value and statistics ask for. */
export function auditProbability(
  party: AuditedParty,
  policy: AuditPolicy = defaultAuditPolicy,
): AuditProbability {
  const byHistory =
    policy.newcomerProbability * 2 ** -(Math.max(0, party.cleanAudits) / policy.cleanAuditsPerHalving);
  const candidates: readonly (readonly [AuditReason, number])[] = [
    ["floor", policy.floorProbability],
    [party.cleanAudits === 0 ? "newcomer" : "history", byHistory],
    ["value at risk", byValue(party, policy)],
    ["statistics", Math.log(Math.max(1, party.evidence)) / Math.log(policy.evidenceMax)],
  ];
  let [reason, highest] = candidates[0]!;
  for (const [name, value] of candidates) if (value > highest) [reason, highest] = [name, value];
  const probability = Math.min(1, highest);
  return { probability, share: auditShare(probability), reason };
}

/** The least p with p · d · (1 − r) · forfeit ≥ gain: then cheating does not pay (`economics.ts`). */
function byValue({ tier, feeNanoUsd, forfeitNanoUsd }: AuditedParty, policy: AuditPolicy): number {
  if (forfeitNanoUsd === null || feeNanoUsd === 0n) return 0;
  if (forfeitNanoUsd <= 0n) return 1;
  const gain = policy.gainShare * Number(feeNanoUsd);
  return gain / (Number(forfeitNanoUsd) * policy.detection[tier] * (1 - policy.colludingShare));
}
