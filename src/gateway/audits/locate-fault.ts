/** Asks the provider of an answer that was computed otherwise for its own numbers: they name the first wrong position and layer. */
import type { AnswerChecker, CheckedPart } from "../../audit/answer-checker.ts";
import { type AskTrace, locateFault } from "../../audit/locate.ts";
import { sha256 } from "../../engine/sha256.ts";
import type { Traced, TraceRequest } from "../../protocol/generate.ts";
import type { Fault } from "../../receipt/replay.ts";
import { wholeAnswer } from "../../receipt/whole-answer.ts";
import type { Clock } from "../../util/clock.ts";
import { toSkeinError } from "../../util/errors.ts";
import type { GatewayTask } from "./pending.ts";

/** Asks a provider; null: it is not here, or cannot. */
export type TraceSource = (
  providerId: string,
) => ((request: TraceRequest, signal: AbortSignal) => Promise<Traced>) | null;

/** Reading an answer again takes about as long as its prompt did. */
const traceTimeoutMs = 60_000;
/** A provider gives one trace a second. */
const retryAfterMs = 1_100;
const triesMax = 5;

export interface Located {
  readonly fault: Fault;
  /** In words. */
  readonly problem: string;
  /** What the provider gave out: row hashes, and leaves of the row at `position`. */
  readonly trace: Traced & { readonly position: number | null };
}

interface Deps {
  readonly clock: Clock;
  readonly checker: AnswerChecker;
  readonly traceOf: TraceSource;
}

/** Null: nothing is known beyond what the gateway computed itself; then the provider cannot defend what it signed. */
export async function locate(
  { clock, checker, traceOf }: Deps,
  task: GatewayTask,
  checked: Extract<CheckedPart, { kind: "done" }>,
  signal: AbortSignal,
): Promise<Located | null> {
  const { promptTokens, verified } = checked;
  const ask = traceOf(task.providerId);
  if (ask === null || verified.fault === null || promptTokens === null) return null;
  const { answer } = task.facts;
  const parts = answer.parts.slice(0, task.part + 1);
  const receipt = parts.at(-1)!.receipt!;
  const tokenIds = [...promptTokens, ...(wholeAnswer(parts).tokenIds ?? [])];
  let trace: Located["trace"] | null = null;
  let problem = verified.problem ?? "";
  const patiently: AskTrace = async (request) => {
    for (let tries = 1; ; tries++) {
      try {
        const traced = await within(clock, signal, (ended) => ask(request, ended));
        trace = { ...traced, position: request.position };
        return traced;
      } catch (error) {
        if (toSkeinError(error).code !== "overloaded" || tries === triesMax) throw error;
        await new Promise<void>((resolve) => void clock.schedule(retryAfterMs, resolve));
      }
    }
  };
  try {
    const fault = await locateFault(sha256, receipt, tokenIds, patiently, async (known) => {
      const again = await checker.check({ choice: answer, part: task.part, known }, signal);
      if (again.kind !== "done") return null;
      problem = again.verified.problem ?? problem;
      return again.verified.fault;
    });
    return fault === null || trace === null ? null : { fault, problem, trace };
  } catch {
    signal.throwIfAborted();
    return null;
  }
}

async function within<T>(
  clock: Clock,
  signal: AbortSignal,
  act: (ended: AbortSignal) => Promise<T>,
): Promise<T> {
  const timeout = new AbortController();
  const cancel = clock.schedule(traceTimeoutMs, () => timeout.abort());
  try {
    return await act(AbortSignal.any([signal, timeout.signal]));
  } finally {
    cancel();
  }
}
