import type { AnswerChecker } from "../../audit/answer-checker.ts";
import type { FloatScales } from "./float-scales.ts";
import type { Signer } from "../../protocol/signing.ts";
import type { Prompt } from "../../protocol/generate.ts";

export interface AuditOptions {
  /** Of the gateway: its name stands under verdicts. */
  readonly signer: Signer;
  readonly checker: AnswerChecker;
  /** What answers of the float tier are weighed with; absent: they are not audited. */
  readonly scales?: FloatScales;
  /** Of the beacon. An audit comes one to two rounds after its answer. */
  readonly roundMs: number;
  /** How long verdicts are kept, and what proves a failure. */
  readonly retentionMs: number;
  /** Requests of the gateway's own, so that a provider without customers is audited, too; null: none. */
  readonly canaries: CanaryOptions | null;
}

export interface CanaryOptions {
  /** Between two of them, on average. */
  readonly intervalMs: number;
  readonly prompts: readonly Prompt[];
}

export const auditRoundMs = 5_000;
