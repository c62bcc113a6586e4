/** Checks chosen receipts by computing them again, while the gateway has nothing better to do. */
import type { AnswerChecker } from "../../audit/answer-checker.ts";
import type { Auditor } from "../../audit/ports.ts";
import { type Outcome, workRoot } from "../../audit/verdict.ts";
import type { VerifiedAnswer } from "../../audit/verify-answer.ts";
import { throwIfAborted } from "../../util/abort.ts";
import type { Clock } from "../../util/clock.ts";
import type { AuditLog } from "./log.ts";
import type { GatewayTask } from "./pending.ts";

/** An audit waits for a pause this long at most: a gateway that is never idle audits, too. */
const idleWaitMaxMs = 30_000;
const idlePollMs = 50;

interface Deps {
  readonly clock: Clock;
  readonly isIdle: () => boolean;
}

interface Facts {
  readonly auditorId: string;
  readonly checker: AnswerChecker;
  readonly log: AuditLog;
  /** Of the float tier. */
  readonly weigher: Auditor | null;
}

export function createReplayAuditor(deps: Deps, { auditorId, checker, log, weigher }: Facts): Auditor {
  const { clock } = deps;
  return {
    auditorId,
    async audit(given, signal) {
      // The source gives out nothing else.
      const task = given as GatewayTask;
      const { answer, chosenBy } = task.facts;
      if (chosenBy === "beacon") await untilIdle(deps, signal);
      if (task.finding !== undefined) {
        log.explain(task, task.facts, { problem: task.problem ?? null, positions: 0, tookMs: 0 });
        return { outcome: { result: "fail", finding: task.finding }, work: await workRoot(auditorId, []) };
      }
      if (task.tier === "float" && weigher !== null) return weigher.audit(task, signal);
      const startMs = clock.monotonicMs();
      const checked = await checker.check({ choice: answer, part: task.part }, signal);
      const tookMs = clock.monotonicMs() - startMs;
      if (checked.kind === "unable") {
        log.explain(task, task.facts, { problem: checked.detail, positions: 0, tookMs });
        return { outcome: { result: "unable", why: checked.why }, work: await workRoot(auditorId, []) };
      }
      const { problem, positions, rows } = checked.verified;
      log.explain(task, task.facts, { problem, positions, tookMs });
      const promptTokens = answer.parts[task.part]!.receipt!.receipt.promptTokens;
      return { outcome: outcomeOf(checked.verified, promptTokens), work: await workRoot(auditorId, rows) };
    },
  };
}

function outcomeOf({ problem, fault }: VerifiedAnswer, promptTokens: number): Outcome {
  if (problem === null) return { result: "pass" };
  if (fault === null) return { result: "fail", finding: { kind: "receipt", position: 0, layer: null } };
  if (fault.kind === "token") {
    return {
      result: "fail",
      finding: { kind: "token", position: promptTokens + fault.position, layer: null },
    };
  }
  const { part, position } = fault;
  if (part === null) return { result: "fail", finding: { kind: "withheld", position, layer: null } };
  const layer = part === "token" ? null : part;
  return { result: "fail", finding: { kind: part === "token" ? "token" : "layer", position, layer } };
}

async function untilIdle({ clock, isIdle }: Deps, signal: AbortSignal): Promise<void> {
  const untilMs = clock.monotonicMs() + idleWaitMaxMs;
  while (!isIdle() && clock.monotonicMs() < untilMs) {
    throwIfAborted(signal);
    await new Promise<void>((resolve) => void clock.schedule(idlePollMs, resolve));
  }
}
