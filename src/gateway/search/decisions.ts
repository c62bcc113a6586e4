/** Why requests went where they went: the latest ones, bounded, readable by whoever asked them. */
import type { CandidateView, DecisionView, RequestView, TrustView } from "../../protocol/gateway-api.ts";
import { fee } from "../../protocol/price.ts";
import { disadvantageOf } from "../../router/explain.ts";
import { loadOf, type Scored } from "../../router/plan.ts";
import type { Clock } from "../../util/clock.ts";
import type { SkeinError } from "../../util/errors.ts";
import type { Bill } from "../answers/answer-request.ts";
import { cloudProviderId } from "./cloud.ts";
import type { Decision } from "./choose-provider.ts";
import type { Directory } from "../directory/directory.ts";
import type { MoveRecord } from "../attempts/move.ts";
import type { CloudPrice } from "../options.ts";
import { feeView, priceView } from "../answers/views.ts";

/** Requests remembered; the oldest is forgotten first. */
const requestsMax = 1_000;
/** Decisions of one request: choices times attempts. */
const decisionsMax = 16;
/** Candidates shown per decision, the best ones. */
const candidatesMax = 8;
/** Of a failure's reason, which may be a provider's own words. */
const failureLengthMax = 200;

interface Kept {
  readonly atMs: number;
  readonly decision: Pick<Decision, "refused" | "refusedNamed" | "serving">;
  readonly promptTokens: number;
  readonly reason: string | null;
  readonly move: MoveRecord | null;
  readonly chosenId: string | null;
  readonly scored: readonly Scored[];
  /** How the attempt there failed; null: it did not. */
  failed: DecisionView["failed"];
}

interface Record {
  readonly owner: string;
  readonly model: string;
  readonly createdMs: number;
  readonly kept: Kept[];
  status: string;
  bill: Bill | null;
  trust: TrustView | null;
}

export class Decisions {
  readonly #clock: Clock;
  readonly #directory: Directory;
  readonly #cloudPrice: CloudPrice | null;
  readonly #onBill: (owner: string, bill: Bill) => void;
  readonly #records = new Map<string, Record>();

  /** @param onBill hears what each request consumed */
  constructor(
    clock: Clock,
    directory: Directory,
    cloudPrice: CloudPrice | null,
    onBill: (owner: string, bill: Bill) => void = () => undefined,
  ) {
    this.#clock = clock;
    this.#directory = directory;
    this.#cloudPrice = cloudPrice;
    this.#onBill = onBill;
  }

  began(requestId: string, owner: string, model: string): void {
    const createdMs = this.#clock.nowMs();
    this.#records.set(requestId, {
      owner,
      model,
      createdMs,
      kept: [],
      status: "running",
      bill: null,
      trust: null,
    });
    if (this.#records.size > requestsMax) this.#records.delete(this.#records.keys().next().value!);
  }

  /**
   * A choice goes to the chosen provider; or nobody could be chosen, and it ends with that.
   *
   * @param move a stream that was slow elsewhere; its outcome is read when somebody asks
   */
  decided(
    requestId: string,
    decision: Decision,
    providerId: string | null,
    move: MoveRecord | null = null,
  ): void {
    const isCloud = providerId === cloudProviderId;
    if (!isCloud) this.#tally(decision, providerId);
    const record = this.#records.get(requestId);
    if (record === undefined || record.kept.length >= decisionsMax) return;
    const { plan, keys, refused, refusedNamed, serving } = decision;
    const first = chosenOf(decision);
    const best = plan.scored.slice(0, candidatesMax);
    record.kept.push({
      atMs: this.#clock.nowMs() - record.createdMs,
      decision: { refused, refusedNamed, serving },
      promptTokens: keys.promptTokens,
      move,
      reason: isCloud
        ? "last_resort"
        : move !== null
          ? "slow_stream"
          : first === undefined || first === plan.attempts[0]
            ? plan.reason
            : "same_prompt",
      chosenId: providerId,
      scored: first === undefined || best.includes(first) ? best : [...best, first],
      failed: null,
    });
  }

  /** The attempt that began first at a provider and has not failed yet, did. @param position tokens that the answer had then */
  failed(requestId: string, providerId: string, error: SkeinError, position: number): void {
    const record = this.#records.get(requestId);
    const kept = record?.kept.find(({ chosenId, failed }) => chosenId === providerId && failed === null);
    if (record === undefined || kept === undefined) return;
    kept.failed = {
      at_ms: Math.round(this.#clock.nowMs() - record.createdMs),
      position,
      code: error.code,
      message: error.message.slice(0, failureLengthMax),
    };
  }

  /** @param status `ok`, or an error's code */
  ended(requestId: string, status: string, bill: Bill | null, trust: TrustView | null = null): void {
    const record = this.#records.get(requestId);
    if (record === undefined) return;
    Object.assign(record, { status, bill, trust });
    if (bill !== null) this.#onBill(record.owner, bill);
  }

  /** Null when it is unknown, or somebody else's. */
  view(requestId: string, owner: string): RequestView | null {
    const record = this.#records.get(requestId);
    if (record === undefined || record.owner !== owner) return null;
    const { model, createdMs, status, bill, trust } = record;
    return {
      object: "request",
      id: requestId,
      model,
      created: Math.floor(createdMs / 1000),
      status,
      trust,
      usage:
        bill === null
          ? null
          : {
              prompt_tokens: bill.promptTokens,
              completion_tokens: bill.outputTokens,
              fee: feeView(
                bill.feeAmount,
                { inputTokens: bill.promptTokens, outputTokens: bill.outputTokens },
                this.#cloudPrice,
              ),
            },
      decisions: record.kept.map((kept) => this.#decisionView(kept, bill)),
    };
  }

  #decisionView(kept: Kept, bill: Bill | null): DecisionView {
    const { refused, refusedNamed, serving } = kept.decision;
    const first = kept.scored.find(({ candidate }) => candidate.providerId === kept.chosenId);
    return {
      at_ms: Math.round(kept.atMs),
      prompt_tokens_estimated: kept.promptTokens,
      provider: kept.chosenId,
      reason: kept.reason,
      moved: kept.move === null ? null : moveView(kept.move),
      failed: kept.failed,
      offers: serving,
      candidates: kept.scored.map((scored) => this.#candidateView(scored, first, bill)),
      rejected: refusedNamed.map(({ providerId, reason }) => ({ provider: providerId, reason })),
      rejected_counts: Object.fromEntries(refused),
    };
  }

  #candidateView(scored: Scored, first: Scored | undefined, bill: Bill | null): CandidateView {
    const { candidate, prediction } = scored;
    const tokens = { inputTokens: bill?.promptTokens ?? 0, outputTokens: bill?.outputTokens ?? 0 };
    const durationMs = Math.round(prediction.prefillMs + prediction.tpotMs * tokens.outputTokens);
    return {
      provider: candidate.providerId,
      score_ms: rounded(prediction.scoreMs),
      ttft_ms: rounded(prediction.ttftMs),
      network_ms: rounded(prediction.networkMs),
      round_trip_ms: rounded(candidate.roundTripMs),
      round_trip_from: candidate.roundTripFrom,
      wait_ms: rounded(prediction.waitMs),
      prefill_ms: rounded(prediction.prefillMs),
      ms_per_token: rounded(prediction.tpotMs),
      cached_tokens: Math.round(candidate.cachedTokens),
      load: rounded(loadOf(candidate)),
      failure_share: rounded(candidate.failureShare),
      cooling: candidate.cooling,
      behind_because:
        first === undefined || first === scored
          ? null
          : disadvantageOf(scored, first, this.#directory.policy),
      price: priceView(candidate.offer.price),
      fee:
        bill === null
          ? null
          : feeView(fee(candidate.offer.price, { ...tokens, durationMs }), tokens, this.#cloudPrice),
    };
  }

  /** For the providers themselves. */
  #tally(decision: Decision, chosenId: string | null): void {
    const first = chosenId === null ? undefined : chosenOf(decision);
    for (const { providerId, reason } of decision.refusedNamed) {
      this.#directory.entryOf(providerId)?.work.missedIt(reason);
    }
    for (const scored of decision.plan.scored) {
      const work = this.#directory.entryOf(scored.candidate.providerId)?.work;
      if (scored === first) work?.gotIt(this.#clock.nowMs());
      else if (first !== undefined) {
        work?.missedIt(disadvantageOf(scored, first, this.#directory.policy));
      }
    }
  }
}

function chosenOf({ plan, chosen }: Decision): Scored | undefined {
  return plan.scored.find(({ candidate }) => candidate === chosen?.candidate);
}

function moveView({ fromId, position, pace, outcome }: MoveRecord): DecisionView["moved"] {
  return {
    from: fromId,
    position,
    ms_per_token: rounded(pace.msPerToken),
    usual_ms_per_token: rounded(pace.usualMsPerToken),
    outcome,
  };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
