/** The work of an auditor: tasks in, signed verdicts out, openings when others have had time to commit as well. */
import type { Clock } from "../util/clock.ts";
import type { Random } from "../util/random.ts";
import type { Signer } from "../protocol/signing.ts";
import type { Auditor, AuditSource, AuditTask, VerdictLog } from "./ports.ts";
import { commitWork, type Opening, saltBytes, signOpening, signVerdict, type Verdict } from "./verdict.ts";

export interface RunAuditsDeps {
  readonly source: AuditSource;
  readonly auditor: Auditor;
  readonly log: VerdictLog;
  /** Of the auditor. */
  readonly signer: Signer;
  readonly clock: Clock;
  readonly random: Random;
}

export interface RunAuditsOptions {
  /** From a verdict to its opening: within it, the other auditors of the same receipt commit to their own work. */
  readonly openAfterMs: number;
  onVerdict?(verdict: Verdict): void;
  /** An opening could not be kept: its verdict counts as one without proof. */
  onLost(error: unknown): void;
}

/** One audit after the other until `signal` aborts or the source ends; openings still due come out then. */
export async function runAudits(
  deps: RunAuditsDeps,
  options: RunAuditsOptions,
  signal: AbortSignal,
): Promise<void> {
  const { source, auditor, log, signer, clock } = deps;
  const onLost = (error: unknown): void => options.onLost(error);
  const due = new Map<Opening, () => void>();
  const open = async (opening: Opening): Promise<void> => {
    due.get(opening)?.();
    if (due.delete(opening)) await log.appendOpening(opening, await signOpening(signer, opening));
  };
  try {
    for await (const task of source.tasks(signal)) {
      // 1. The work, then a commitment to it.
      const { outcome, work } = await auditor.audit(task, signal);
      const salt = deps.random.bytes(saltBytes);
      const { receiptHash } = task;
      const verdict: Verdict = {
        ...aboutOf(task),
        auditorId: auditor.auditorId,
        outcome,
        commitment: await commitWork(auditor.auditorId, receiptHash, { salt, work }),
        issuedAtMs: Math.round(clock.nowMs()),
      };
      // 2. The verdict is durable before anybody hears of it.
      await log.append(verdict, await signVerdict(signer, verdict));
      options.onVerdict?.(verdict);
      // 3. The proof of the work, later.
      const opening: Opening = { auditorId: auditor.auditorId, receiptHash, salt, work };
      due.set(
        opening,
        clock.schedule(options.openAfterMs, () => void open(opening).catch(onLost)),
      );
    }
  } finally {
    for (const opening of due.keys()) await open(opening);
  }
}

function aboutOf({ providerId, receiptHash, modelId, tier, round }: AuditTask) {
  return { providerId, receiptHash, modelId, tier, round };
}
