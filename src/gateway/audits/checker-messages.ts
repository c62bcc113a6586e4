import type { CheckedPart, CheckQuestion } from "../../audit/answer-checker.ts";

export interface ToChecker {
  readonly id: number;
  /** A converted model. */
  readonly modelPath: string;
  readonly modelId: string;
  readonly question: CheckQuestion;
}

export interface FromChecker {
  readonly id: number;
  readonly checked: CheckedPart;
}
