/** The auditor of the float tier: reads what was answered, and keeps evidence by provider until it is flagged. */
import type { AnswerScores } from "../engine/port.ts";
import type { Clock } from "../util/clock.ts";
import { type SkeinError, toSkeinError } from "../util/errors.ts";
import { type CalibrationRecord, limitsFor, samplingClassOf } from "./calibration.ts";
import { type Evidence, isFlagged, noEvidence, withMargins } from "./evidence.ts";
import type { EvidenceBook } from "./evidence-book.ts";
import type { Scoring } from "./honest-streams.ts";
import type { Auditor, AuditTask } from "./ports.ts";
import { type Inability, type Outcome, workRoot } from "./verdict.ts";

export interface FloatAuditorDeps {
  readonly auditorId: string;
  /** Serves the model that `calibration` is of. */
  readonly engine: Pick<Scoring, "score">;
  readonly calibration: CalibrationRecord;
  readonly book: Pick<EvidenceBook, "of" | "set">;
  readonly clock: Clock;
  /** Whether the text that was delivered is another one than the tokens say; absent: nobody looks. */
  readonly hasOtherText?: (task: AuditTask, scores: AnswerScores) => boolean;
  /** Hears what an audit is about to find. */
  readonly onWeighed?: (task: AuditTask, weighed: Weighed) => void;
}

/** What was found in an answer's margins, those of this provider's own tokens. */
export interface Weighed {
  readonly margins: readonly number[];
  /** With those of earlier answers. */
  readonly evidence: Evidence;
  readonly hasOtherText: boolean;
}

/** Verdicts fail with `improbable` when the evidence of a window, this answer included, reaches the flag. */
export function createFloatAuditor({
  auditorId,
  engine,
  calibration,
  book,
  clock,
  hasOtherText,
  onWeighed,
}: FloatAuditorDeps): Auditor {
  /** One answer is judged, and the evidence against its provider grows or shrinks. */
  function judge(task: AuditTask, scores: AnswerScores): Outcome {
    const { providerId, modelId, claim, startPosition = 0 } = task;
    const margins = scores.margins.slice(startPosition);
    const nowMs = clock.nowMs();
    const limits = limitsFor(calibration, samplingClassOf(claim!.request.sampling));
    const evidence = withMargins(book.of(providerId, modelId, nowMs), margins, limits);
    const isFail = isFlagged(evidence);
    // One flag is one verdict; the next one is earned anew.
    book.set(providerId, modelId, isFail ? noEvidence : evidence, nowMs);
    const isOther = hasOtherText?.(task, scores) === true;
    onWeighed?.(task, { margins, evidence, hasOtherText: isOther });
    if (isOther)
      return { result: "fail", finding: { kind: "receipt", position: startPosition, layer: null } };
    if (!isFail) return { result: "pass" };
    const worst = startPosition + margins.reduce((at, margin, i) => (margin > margins[at]! ? i : at), 0);
    return { result: "fail", finding: { kind: "improbable", position: worst, layer: null } };
  }

  async function audit(task: AuditTask, signal: AbortSignal) {
    const { claim, modelId } = task;
    if (claim === null) return nothing("prompt not shown");
    if (modelId !== calibration.model_id) return nothing("model not here");
    try {
      const scores = await engine.score({ ...claim, chunkTokens: null }, signal);
      const bytes = new Uint8Array(Float64Array.from(scores.margins).buffer);
      return { outcome: judge(task, scores), work: await workRoot(auditorId, [bytes]) };
    } catch (error) {
      return nothing(inabilityOf(toSkeinError(error)));
    }
  }

  async function nothing(why: Inability) {
    return { outcome: { result: "unable", why } as const, work: await workRoot(auditorId, []) };
  }

  return { auditorId, audit };
}

/** @throws SkeinError `cancelled` */
function inabilityOf(error: SkeinError): Inability {
  switch (error.code) {
    case "cancelled":
      throw error;
    case "deadline_exceeded":
      return "timeout";
    // A token or a length that this engine does not know: another model, or another version of it.
    case "invalid_request":
    case "context_length_exceeded":
      return "engine version";
    default:
      return "busy";
  }
}
