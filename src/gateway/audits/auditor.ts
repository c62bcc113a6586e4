/** Checks chosen receipts by computing them again, while the gateway has nothing better to do. */
import type { AnswerChecker } from "../../audit/answer-checker.ts";
import type { Auditor } from "../../audit/ports.ts";
import type { Planted } from "../../audit/planted.ts";
import { type Inability, type Outcome, workRoot } from "../../audit/verdict.ts";
import type { VerifiedAnswer } from "../../audit/verify-answer.ts";
import { throwIfAborted } from "../../util/abort.ts";
import type { Clock } from "../../util/clock.ts";
import { locate, type TraceSource } from "./locate-fault.ts";
import type { AuditLog } from "./log.ts";
import type { GatewayTask } from "./pending.ts";
import { type Wakefulness, withFault } from "./wakefulness.ts";
import type { Weigher } from "./weigher.ts";

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
  /** Of the float tier; null: it is not audited. */
  readonly weigher: Weigher | null;
  readonly wakefulness: Wakefulness;
  /** How providers are asked for their own numbers. */
  readonly traceOf: TraceSource;
}

type Finding = Awaited<ReturnType<Auditor["audit"]>>;

export function createReplayAuditor(deps: Deps, facts: Facts): Auditor {
  const { auditorId, log, weigher, wakefulness } = facts;
  const nothing = async (why: Inability): Promise<Finding> => ({
    outcome: { result: "unable", why },
    work: await workRoot(auditorId, []),
  });
  return {
    auditorId,
    async audit(given, signal) {
      // The source gives out nothing else.
      const task = given as GatewayTask;
      if (task.facts.chosenBy === "beacon") await untilIdle(deps, signal);
      // 1. What is known already.
      if (task.finding !== undefined) {
        log.explain(task, task.facts, { problem: task.problem ?? null, positions: 0, tookMs: 0 });
        return { outcome: { result: "fail", finding: task.finding }, work: await workRoot(auditorId, []) };
      }
      // 2. Whether the checker would see a fault.
      const isFloat = task.tier === "float" && weigher !== null;
      const tryFault = (planted: Planted): Promise<Outcome> =>
        isFloat ? weigher.tryFault(task, planted, signal) : tryExactFault(facts, task, planted, signal);
      const positions = task.facts.answer.parts[task.part]!.tokenIds?.length ?? 0;
      if (!(await wakefulness.isAwake({ receiptHash: task.receiptHash, positions }, tryFault))) {
        const problem = "The checker passes answers that are known to be wrong.";
        log.explain(task, task.facts, { problem, positions: 0, tookMs: 0 });
        return nothing("checker failed");
      }
      // 3. The answer.
      return isFloat ? weigher.audit(task, signal) : auditExact({ ...deps, ...facts }, task, signal);
    },
  };
}

async function auditExact(deps: Deps & Facts, task: GatewayTask, signal: AbortSignal): Promise<Finding> {
  const { clock, checker, log, auditorId } = deps;
  const { answer } = task.facts;
  const startMs = clock.monotonicMs();
  const checked = await checker.check({ choice: answer, part: task.part }, signal);
  const tookMs = clock.monotonicMs() - startMs;
  if (checked.kind === "unable") {
    log.explain(task, task.facts, { problem: checked.detail, positions: 0, tookMs });
    return { outcome: { result: "unable", why: checked.why }, work: await workRoot(auditorId, []) };
  }
  const { problem, positions, rows } = checked.verified;
  const located = await locate(deps, task, checked, signal);
  log.explain(task, task.facts, {
    problem: located?.problem ?? problem,
    positions,
    tookMs,
    ...(located === null ? {} : { trace: located.trace }),
  });
  const found = located === null ? checked.verified : { ...checked.verified, fault: located.fault };
  return { outcome: outcomeOf(found, promptTokensOf(task)), work: await workRoot(auditorId, rows) };
}

async function tryExactFault(
  { checker }: Facts,
  task: GatewayTask,
  planted: Planted,
  signal: AbortSignal,
): Promise<Outcome> {
  const question = withFault({ choice: task.facts.answer, part: task.part }, planted);
  const checked = await checker.check(question, signal);
  if (checked.kind === "unable") return { result: "unable", why: checked.why };
  return outcomeOf(checked.verified, promptTokensOf(task));
}

function promptTokensOf({ facts: { answer }, part }: GatewayTask): number {
  return answer.parts[part]!.receipt!.receipt.promptTokens;
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
