/** Audits of the float tier: one attempt's tokens are weighed, and evidence against its provider grows or shrinks. */
import { flagAlpha } from "../../audit/evidence.ts";
import type { EvidenceBook } from "../../audit/evidence-book.ts";
import { createFloatAuditor, type Weighed } from "../../audit/float-auditor.ts";
import type { Auditor, AuditTask } from "../../audit/ports.ts";
import type { Planted } from "../../audit/planted.ts";
import { type Outcome, workRoot } from "../../audit/verdict.ts";
import { claimOf, textProblemOf } from "../../audit/weigh-answer.ts";
import type { ReceiptedChoice } from "../../receipt/document.ts";
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import type { FloatScales } from "./float-scales.ts";
import type { AuditLog } from "./log.ts";
import type { GatewayTask } from "./pending.ts";
import { withOtherToken } from "./wakefulness.ts";

interface Deps {
  readonly clock: Clock;
  readonly log: AuditLog;
  readonly book: Pick<EvidenceBook, "of" | "set">;
}

export interface Weigher extends Auditor {
  /** Whether a wrong token is seen. */
  tryFault(task: GatewayTask, planted: Planted, signal: AbortSignal): Promise<Outcome>;
}

export function createWeigher(deps: Deps, auditorId: string, scales: FloatScales): Weigher {
  const { clock, log, book } = deps;
  return {
    auditorId,
    async audit(given, signal) {
      const task = given as GatewayTask;
      const choice = upTo(task);
      const startMs = clock.monotonicMs();
      const explain = (problem: string | null, positions: number): void =>
        log.explain(task, task.facts, { problem, positions, tookMs: clock.monotonicMs() - startMs });
      const calibration = scales.calibrationOf(task.modelId);
      if (calibration === null) {
        explain("The model is not here.", 0);
        return { outcome: { result: "unable", why: "model not here" }, work: await workRoot(auditorId, []) };
      }
      let claimed: AuditTask;
      try {
        const { asked } = choice.parts.at(-1)!;
        claimed = { ...task, claim: claimOf(choice), startPosition: asked.emitted.tokens };
      } catch (error) {
        if (!(error instanceof SkeinError)) throw error;
        explain(error.text, 0);
        return {
          outcome: { result: "unable", why: "prompt not shown" },
          work: await workRoot(auditorId, []),
        };
      }
      const contextTokens = choice.parts.at(-1)!.asked.contextTokensMax;
      explain(null, 0);
      const auditor = createFloatAuditor({
        auditorId,
        engine: {
          score: (request, ended) => scales.score(task.modelId, request, contextTokens, ended),
        },
        calibration,
        book,
        clock,
        hasOtherText: (_, scores) => textProblemOf(choice, scores) !== null,
        onWeighed: (_, weighed) => explain(problemOf(weighed), weighed.margins.length),
      });
      return auditor.audit(claimed, signal);
    },
    async tryFault(task, { position }, signal) {
      const choice = upTo(task);
      const { asked } = choice.parts.at(-1)!;
      const place = asked.emitted.tokens + position;
      try {
        const claim = claimOf(choice);
        const wrong = { ...claim, tokenIds: withOtherToken(claim.tokenIds, place) };
        const { margins } = await scales.score(task.modelId, wrong, asked.contextTokensMax, signal);
        if (margins[place] === 0) return { result: "pass" };
        return { result: "fail", finding: { kind: "token", position, layer: null } };
      } catch {
        signal.throwIfAborted();
        return { result: "unable", why: "busy" };
      }
    },
  };
}

/** The answer up to and with the attempt in question. */
function upTo({ facts: { answer }, part }: GatewayTask): ReceiptedChoice {
  return { ...answer, parts: answer.parts.slice(0, part + 1) };
}

/** In words; null: nothing stands out. */
function problemOf({ margins, evidence, hasOtherText }: Weighed): string | null {
  if (hasOtherText) return "its tokens give another text than the one delivered";
  const off = margins.filter((margin) => margin > 0).length;
  const weight = `evidence e^${evidence.logMost.toFixed(1)} of e^${(-Math.log(flagAlpha)).toFixed(1)} after ${evidence.tokens} tokens`;
  if (evidence.logMost < -Math.log(flagAlpha)) return null;
  return `${off} of ${margins.length} tokens are not the ones that this model draws here; ${weight}`;
}
