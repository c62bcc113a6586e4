import type { Command } from "commander";
import type { CandidateView, DecisionView, TrustView } from "../../protocol/gateway-api.ts";
import { printableJson, printableLine } from "../../util/printable.ts";
import { contextOf } from "../context.ts";
import { perMillion, shortId, table } from "../terminal.ts";

/** `skein why <id>` */
export async function why(id: string, command: Command): Promise<void> {
  const context = contextOf(command);
  const request = await context.client().request(id);
  if (context.flags["json"] === true) {
    console.log(printableJson(request));
    return;
  }
  const { usage } = request;
  const cost =
    usage === null
      ? ""
      : `, ${usage.prompt_tokens} tokens in, ${usage.completion_tokens} out, $${usage.fee.usd}`;
  console.log(printableLine(`${request.model}: ${request.status}${cost}`));
  if (request.trust !== null) for (const line of trustLines(request.trust)) console.log(printableLine(line));
  for (const decision of request.decisions) print(decision);
}

const replicaWords: Record<NonNullable<TrustView["replicas"]>[number]["outcome"], string> = {
  agreed: "the same answer",
  proved_wrong: "another answer, which the gateway proved wrong",
  outvoted: "another answer than most",
  differed: "another answer",
  failed: "no answer",
};

function trustLines({ asked, given, replicas = [] }: TrustView): string[] {
  const lines = asked === null ? [] : [`trust: asked for ${asked}, given ${given}`];
  const several = replicas.some(({ choice }) => choice > 0);
  return [
    ...lines,
    ...replicas.map(({ choice, provider, receipt, outcome }) => {
      const who = provider === null ? "nobody" : shortId(provider);
      const signed = receipt === null ? "no receipt" : `receipt ${receipt.slice(0, 12)}`;
      return `  ${several ? `answer ${choice + 1}: ` : ""}${who}: ${replicaWords[outcome]} (${signed})`;
    }),
  ];
}

function print(decision: DecisionView): void {
  const where = decision.provider === null ? "nobody" : shortId(decision.provider);
  const reason = decision.reason === null ? "" : `: ${decision.reason.replaceAll("_", " ")}`;
  console.log(
    printableLine(
      `\nafter ${decision.at_ms} ms to ${where}${reason} (${decision.offers} ${decision.offers === 1 ? "offer" : "offers"}, about ${decision.prompt_tokens_estimated} prompt tokens)`,
    ),
  );
  if (decision.moved !== null) console.log(printableLine(moveLine(decision.moved)));
  if (decision.failed !== null) console.log(printableLine(failureLine(decision.failed)));
  const head = [
    "provider",
    "score",
    "first token",
    "round trip",
    "queue",
    "ms/token",
    "cached",
    "in + out / M",
    "cost",
    "why not",
  ];
  if (decision.candidates.length > 0) console.log(table(head, decision.candidates.map(rowOf)));
  const rejected = Object.entries(decision.rejected_counts).map(
    ([word, count]) => `${count} ${word.replaceAll("_", " ")}`,
  );
  if (rejected.length > 0) console.log(printableLine(`rejected: ${rejected.join(", ")}`));
}

const outcomes: Record<Moved["outcome"], string> = {
  running: "the other one catches up",
  taken_over: "the other one caught up and went on",
  not_needed: "the slow one ended first",
  different: "the other one's tokens differed, so the slow one went on",
  failed: "the other one failed, so the slow one went on",
  too_slow: "the other one did not catch up in time, so the slow one went on",
};

function failureLine({ at_ms, position, code, message }: NonNullable<DecisionView["failed"]>): string {
  const where = position === 0 ? "before its first token" : `at token ${position}`;
  return `failed after ${at_ms} ms, ${where} (${code}): ${message}`;
}

type Moved = NonNullable<DecisionView["moved"]>;

function moveLine({ from, position, ms_per_token, usual_ms_per_token, outcome }: Moved): string {
  const slow = `${ms_per_token.toFixed(0)} ms per token instead of ${usual_ms_per_token.toFixed(0)}`;
  return `${shortId(from)} had become slow at token ${position} (${slow}): ${outcomes[outcome]}`;
}

function rowOf(candidate: CandidateView): string[] {
  const { price, fee } = candidate;
  return [
    shortId(candidate.provider),
    candidate.score_ms.toFixed(0),
    `${candidate.ttft_ms.toFixed(0)} ms`,
    `${candidate.round_trip_ms.toFixed(0)} ms${candidate.round_trip_from === "measured" ? "" : ` (${candidate.round_trip_from})`}`,
    `${candidate.wait_ms.toFixed(0)} ms`,
    candidate.ms_per_token.toFixed(1),
    String(candidate.cached_tokens),
    `${perMillion(price.input_per_million_tokens)} + ${perMillion(price.output_per_million_tokens)}`,
    fee === null ? "–" : `$${fee.usd}`,
    candidate.behind_because ?? "",
  ];
}
