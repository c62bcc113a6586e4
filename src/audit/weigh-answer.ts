/**
 * One choice of a kept answer against the model itself, in the float tier: how far every token is from the one that this
 * machine draws. Rounding differs between machines, so this is evidence and never proof.
 */
import type { AnswerScores, Engine, ScoreRequest } from "../engine/port.ts";
import type { GenerateRequest } from "../protocol/generate.ts";
import { optionsOf } from "../receipt/asked.ts";
import type { ReceiptedChoice } from "../receipt/document.ts";
import { wholeAnswer } from "../receipt/whole-answer.ts";
import { SkeinError } from "../util/errors.ts";
import { type CalibrationRecord, limitsFor, samplingClassOf } from "./calibration.ts";
import { type FloatLimits, isFlagged, logEvidence, noEvidence, withMargins } from "./evidence.ts";
import type { Scoring } from "./honest-streams.ts";
import { samplingOf } from "./verify-answer.ts";

/**
 * Where nobody calibrated: many times what rounding was seen to do on any machine (docs/VERIFICATION.md), so that only
 * gross differences stand out: another model, another prompt, another seed.
 */
export const uncalibratedLimits: FloatLimits = [{ clip: 0.5, meanMax: 0.1 }];

export interface WeighedAnswer {
  /** Tokens that were compared, the end as one more where the model is said to have ended the answer. */
  readonly tokens: number;
  /** Tokens that are not the ones drawn here. */
  readonly off: number;
  /** In nats; Infinity: a token that the sampling does not allow. 0 without tokens. */
  readonly marginMax: number;
  /** Natural logarithm of the evidence against the answer; at −ln(flagAlpha) and above it is improbable. */
  readonly logEvidence: number;
  /** Whether the limits are of this model and a runtime that somebody measured. */
  readonly isCalibrated: boolean;
  /** In words; null: it fits. */
  readonly problem: string | null;
}

/**
 * @param calibration null: none; its model must be the receipt's
 * @throws SkeinError `invalid_request` when there is nothing that could be compared; as `Engine.score`
 */
export async function weighAnswer(
  engine: Scoring & Pick<Engine, "model">,
  choice: ReceiptedChoice,
  calibration: CalibrationRecord | null,
  signal: AbortSignal,
): Promise<WeighedAnswer> {
  const claim = claimOf(choice);
  const { modelId, sampling } = claim.request;
  if (engine.model.modelId !== modelId) throw cannot(`it is of ${modelId}, not of ${engine.model.modelId}`);
  if (calibration !== null && calibration.model_id !== modelId) {
    throw cannot(`the calibration is of ${calibration.model_id}, not of ${modelId}`);
  }
  const scores = await engine.score(claim, signal);
  const { margins } = scores;
  const limits =
    calibration === null ? uncalibratedLimits : limitsFor(calibration, samplingClassOf(sampling));
  const evidence = withMargins(noEvidence, margins, limits);
  return {
    tokens: margins.length,
    off: margins.filter((margin) => margin > 0).length,
    marginMax: Math.max(0, ...margins),
    logEvidence: logEvidence(evidence),
    isCalibrated: calibration !== null,
    problem: textProblemOf(choice, scores) ?? (isFlagged(evidence) ? improbable(scores) : null),
  };
}

/** What is claimed of a choice, as one answer from its beginning. @throws SkeinError `invalid_request` when it cannot be compared */
export function claimOf({ prompt, parts }: ReceiptedChoice): ScoreRequest {
  const [first] = parts;
  if (first === undefined) throw cannot("nobody has answered");
  if (prompt === null) throw cannot("its prompt was too long to be kept");
  if (parts.some(({ tokenIds }) => tokenIds === null)) throw cannot("its token ids are not known");
  const { requestId, modelId, outputTokensMax, timeoutMs, tier } = first.asked;
  if (tier !== "float") throw cannot(`its tier is '${tier}'`);
  const { stop, constraint } = optionsOf(first.asked);
  const request: GenerateRequest = {
    requestId,
    modelId,
    prompt,
    emitted: { tokenIds: [], text: "" },
    sampling: samplingOf(first),
    stop,
    constraint: constraint === undefined ? null : { grammar: constraint.grammar, responseFormat: null },
    logprobs: null,
    outputTokensMax,
    timeoutMs,
  };
  const tokenIds = wholeAnswer(parts).tokenIds ?? [];
  return { request, tokenIds, isEnded: isStopped(parts), chunkTokens: null };
}

function isStopped(parts: ReceiptedChoice["parts"]): boolean {
  return parts.at(-1)?.receipt?.receipt.finish === "stop";
}

/** Whether its tokens say another text; null: the same. */
export function textProblemOf(
  { parts }: ReceiptedChoice,
  { text: written }: Pick<AnswerScores, "text">,
): string | null {
  const delivered = wholeAnswer(parts).text;
  const finish = parts.at(-1)?.receipt?.receipt.finish;
  // An unfinished answer may have held back what was not certain yet.
  const isWhole = finish === "stop" || finish === "length";
  const fits = isWhole ? delivered === written : written.startsWith(delivered);
  return fits ? null : "its tokens give another text than the one delivered";
}

function improbable({ margins }: AnswerScores): string {
  const off = margins.filter((margin) => margin > 0).length;
  return `${off} of ${margins.length} tokens are not the ones that this model draws here, far more than rounding explains`;
}

function cannot(why: string): SkeinError {
  return new SkeinError("invalid_request", `This answer cannot be compared: ${why}.`);
}
