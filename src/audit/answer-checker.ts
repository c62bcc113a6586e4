/** Checking one attempt at an answer against the model itself. Implementations: in this thread (`loaded-checker.ts`), in one of its own (`gateway/audits/checker-thread.ts`). */
import type { KnownRows } from "../exact/commitment/difference.ts";
import type { ReceiptedChoice } from "../receipt/document.ts";
import type { VerifiedAnswer } from "./verify-answer.ts";
import type { Inability } from "./verdict.ts";

export interface CheckQuestion {
  readonly choice: ReceiptedChoice;
  /** Which of its attempts. */
  readonly part: number;
  /** Rows and leaves that its provider gave out, to name the layer of a wrong number; absent: none. */
  readonly known?: KnownRows;
}

export type CheckedPart =
  | {
      readonly kind: "done";
      readonly verified: VerifiedAnswer;
      /** As the model reads the prompt; null where nothing that was computed is wrong. */
      readonly promptTokens: readonly number[] | null;
    }
  /** @param detail in words */
  | { readonly kind: "unable"; readonly why: Inability; readonly detail: string };

export interface AnswerChecker {
  /** Bounded in time; what cannot be checked is `unable`. @throws SkeinError `cancelled` only */
  check(question: CheckQuestion, signal: AbortSignal): Promise<CheckedPart>;
  /** Whether a model is at hand now. */
  has(modelId: string): boolean;
  close(): Promise<void>;
}
