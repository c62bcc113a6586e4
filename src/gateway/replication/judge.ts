/** Which of several replicas is right, when they are not all the same. */
import type { Prompt } from "../../protocol/generate.ts";
import type { ReceiptedChoice } from "../../receipt/document.ts";
import type { Audits } from "../audits/index.ts";
import { type Answered, differingPart, sameAnswers } from "./compare.ts";
import type { ReplicaOutcome } from "./replication.ts";

export interface Question {
  readonly owner: string;
  readonly requestId: string;
  readonly index: number;
  readonly prompt: Prompt;
  /** Parties that must agree; the gateway's own computation counts as one. */
  readonly agreedMin: number;
}

export interface Judgement<T> {
  /** Those whose answer counts; null: nobody can tell. */
  readonly right: readonly T[] | null;
  /** Providers, and the gateway where it computed the answer itself. */
  readonly agreed: number;
  readonly outcomes: ReadonlyMap<number, ReplicaOutcome>;
}

/**
 * Equal answers of enough replicas count. Else the gateway computes them again where it has the model, and what is wrong there is proved
 * wrong; where it has not, a majority counts. Those who lost get their verdict in the background.
 *
 * @param audits null: nothing is audited here
 * @throws SkeinError `cancelled`, `deadline_exceeded`
 */
export async function judge<T extends Answered>(
  audits: Audits | null,
  question: Question,
  answers: readonly T[],
  signal: AbortSignal,
): Promise<Judgement<T>> {
  const groups = sameAnswers(answers);
  const [most = []] = groups;
  if (groups.length === 1 && most.length >= question.agreedMin)
    return judgementOf(most, most.length, groups, "differed");
  const { owner, requestId } = question;
  const receipted = (answer: T): ReceiptedChoice => receiptedChoice(question, answer);
  const modelId = most[0]?.parts.at(-1)?.asked.modelId;
  const canCompute = audits !== null && modelId !== undefined && audits.hasModel(modelId);
  const wrong = new Set<readonly T[]>();
  for (const group of canCompute ? groups : []) {
    const others = groups.filter((other) => other !== group);
    const besides = others.map((other) => receipted(other[0]!));
    const result = await audits!.judge({ owner, requestId }, receipted(group[0]!), besides, signal);
    if (result === "unable") break;
    if (result === "fail") wrong.add(group);
    // Nobody waits for what happens to the others.
    for (const each of result === "fail" ? group : others.flat())
      audits!.judgeLater({ owner, requestId }, receipted(each), [
        receipted((result === "fail" ? (others[0] ?? group) : group)[0]!),
      ]);
    if (result === "pass") return judgementOf(group, group.length + 1, groups, "proved_wrong");
  }
  if (wrong.size === groups.length) return judgementOf(null, 0, groups, "proved_wrong");
  return byMajority(
    audits,
    question,
    groups.filter((group) => !wrong.has(group)),
  );
}

/** Where nobody can compute: most of all that answered, and enough. */
function byMajority<T extends Answered>(
  audits: Audits | null,
  { owner, requestId, ...question }: Question,
  groups: readonly (readonly T[])[],
): Judgement<T> {
  const most = groups[0] ?? [];
  const count = groups.flat().length;
  if (most.length * 2 <= count || most.length < question.agreedMin)
    return judgementOf(null, 0, groups, "differed");
  for (const outvoted of groups.slice(1).flat()) {
    const differing = differingPart(outvoted, most[0]!);
    if (audits === null || differing === null) continue;
    const of = { owner, requestId, ...differing, votes: `${most.length} of ${count}` };
    audits.outvoted(of, receiptedChoice(question, outvoted), [receiptedChoice(question, most[0]!)]);
  }
  return judgementOf(most, most.length, groups, "outvoted");
}

export function receiptedChoice(
  { index, prompt }: Pick<Question, "index" | "prompt">,
  { replica, parts }: Pick<Answered, "replica" | "parts">,
): ReceiptedChoice {
  return { index, replica, prompt, parts };
}

function judgementOf<T extends Answered>(
  right: readonly T[] | null,
  agreed: number,
  groups: readonly (readonly T[])[],
  others: ReplicaOutcome,
): Judgement<T> {
  const outcomes = new Map<number, ReplicaOutcome>();
  for (const { replica } of groups.flat()) outcomes.set(replica, others);
  for (const { replica } of right ?? []) outcomes.set(replica, "agreed");
  return { right, agreed, outcomes };
}
