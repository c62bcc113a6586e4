/**
 * The gateway's audits: answers of the exact tier whose receipts the beacon chooses are computed again here, and what
 * that shows decides who gets work. Prompts and answers stay in this process and its store.
 */
import {
  aloneChannel,
  type BeaconChannel,
  type CommitRevealBeacon,
  createBeacon,
} from "../../audit/beacon.ts";
import { runAudits } from "../../audit/run.ts";
import { commitWork, saltBytes, signVerdict, type Verdict, workRoot } from "../../audit/verdict.ts";
import { sha256 } from "../../engine/sha256.ts";
import type { ModelOffer } from "../../protocol/offer.ts";
import type { AuditView } from "../../protocol/gateway-api.ts";
import { checkDocument } from "../../receipt/check-document.ts";
import type { Part, ReceiptDocument, ReceiptedChoice } from "../../receipt/document.ts";
import { encodeReceipt, receiptDigest, type SignedReceipt } from "../../receipt/receipt.ts";
import { toHex } from "../../util/bytes.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { GatewayDeps } from "../options.ts";
import { type AuditFacts, AuditLog } from "./log.ts";
import { createReplayAuditor } from "./auditor.ts";
import type { AuditOptions } from "./options.ts";
import { type GatewayTask, PendingReceipts } from "./pending.ts";
import type { Reputations } from "./reputations.ts";
import { StoredEvidence } from "./stored-evidence.ts";
import type { TraceSource } from "./locate-fault.ts";
import { Wakefulness } from "./wakefulness.ts";
import { createWeigher } from "./weigher.ts";

/** Nobody else audits here: openings only wait for the verdict to be on the disk. */
const openAfterMs = 1_000;
/** As whom the gateway asks itself; no API key's owner is called so. */
export const canaryOwner = "canary";
/** How long somebody who wants an audit waits for its verdict. */
const askedTimeoutMs = 9 * 60_000;
/** How long a client waits while the gateway decides which of several answers is right. */
const judgeTimeoutMs = 60_000;

interface Deps extends GatewayDeps {
  readonly reputations: Reputations;
  /** Whether the gateway has nothing to do. */
  readonly isIdle: () => boolean;
  /** What is known of a provider has changed. */
  readonly onJudged: (providerId: string) => void;
  /** How providers are asked for their own numbers; absent: they are not. */
  readonly traceOf?: TraceSource;
  /** Where beacons are shown. */
  readonly channel?: BeaconChannel;
}

export class Audits {
  readonly log: AuditLog;
  readonly wakefulness: Wakefulness;
  readonly #deps: Deps;
  readonly #options: AuditOptions;
  readonly #beacon: CommitRevealBeacon;
  readonly #pending: PendingReceipts;
  readonly #evidence: StoredEvidence;
  readonly #stop = new AbortController();
  /** Who waits for the verdict on a receipt. */
  readonly #awaited = new Map<string, (() => void)[]>();
  readonly #running: Promise<void>;

  constructor(deps: Deps, options: AuditOptions) {
    this.#deps = deps;
    this.#options = options;
    const { clock, random, store } = deps;
    const { roundMs, signer, checker } = options;
    const gatewayId = signer.providerId;
    this.log = new AuditLog(store, clock, options.retentionMs);
    this.#beacon = createBeacon(
      { clock, random, channel: deps.channel ?? aloneChannel },
      { gatewayId, members: () => [gatewayId], roundMs },
    );
    this.#pending = new PendingReceipts(this.#beacon, (task) => {
      this.#notChecked(task).catch((error: unknown) =>
        this.#warn(error, "an audit that fell out is not recorded"),
      );
    });
    this.#evidence = new StoredEvidence(deps);
    this.wakefulness = new Wakefulness(deps);
    const { scales } = options;
    const weighing = { clock, log: this.log, book: this.#evidence };
    const weigher = scales === undefined ? null : createWeigher(weighing, gatewayId, scales);
    const auditor = createReplayAuditor(deps, {
      auditorId: gatewayId,
      checker,
      log: this.log,
      weigher,
      wakefulness: this.wakefulness,
      traceOf: deps.traceOf ?? (() => null),
    });
    this.#running = runAudits(
      { source: this.#pending, auditor, log: this.log, signer, clock, random },
      {
        openAfterMs,
        onVerdict: (verdict) => this.#judged(verdict),
        onLost: (error) => this.#warn(error, "an audit's opening is not kept"),
      },
      this.#stop.signal,
    ).catch((error: unknown) => this.#warn(error, "audits have stopped"));
  }

  /** Receipts and chosen ones that wait. */
  get lengths(): PendingReceipts["lengths"] {
    return this.#pending.lengths;
  }

  /** Receipts for which there was no room. */
  get dropped(): number {
    return this.#pending.dropped;
  }

  /** Whether exact answers of it can be computed again here. */
  hasModel(modelId: string): boolean {
    return this.#options.checker.has(modelId);
  }

  /** Whether its answers can be audited here, in its tier's way. */
  canAudit({ modelId, trustTier }: Pick<ModelOffer, "modelId" | "trustTier">): boolean {
    return trustTier === "exact" ? this.hasModel(modelId) : this.#canWeigh(modelId);
  }

  /** What stands against a provider's float answers. */
  evidenceOf(providerId: string): ReturnType<StoredEvidence["about"]> {
    return this.#evidence.about(providerId);
  }

  #canWeigh(modelId: string): boolean {
    return this.#options.scales?.calibrationOf(modelId) != null;
  }

  /**
   * An answer's receipts are here: from now on nobody can change them, and the beacon of the next round may choose them.
   * @param probabilityMin what the request asks for, beyond what its provider's past does
   * @param latePart the only one whose receipt was not there before; null: all are new
   */
  committed(
    owner: string,
    requestId: string,
    answer: ReceiptedChoice,
    { probabilityMin = 0, latePart = null }: { probabilityMin?: number; latePart?: Part | null } = {},
  ): void {
    const round = this.#beacon.roundAt(this.#deps.clock.nowMs());
    for (const [part, each] of answer.parts.entries()) {
      const { receipt, problem, providerId, asked } = each;
      if (latePart !== null && each !== latePart) continue;
      if (receipt === null || problem !== null || asked.tier === "unverified") continue;
      const { tier, modelId } = asked;
      if (tier === "float" && !this.#canWeigh(modelId)) continue;
      const evidence = tier === "float" ? this.#evidence.weight(providerId, modelId) : 1;
      const atStake = { tier, evidence, feeNanoUsd: receipt.receipt.fee };
      const { audit } = this.#deps.reputations.standing(providerId, atStake);
      const probability = Math.max(audit.probability, probabilityMin);
      const asker = owner === canaryOwner ? null : owner;
      const facts: AuditFacts = { owner: asker, answer, requestId, chosenBy: "beacon", probability };
      const share = Math.min(2 ** 32, Math.max(audit.share, Math.ceil(probabilityMin * 2 ** 32)));
      this.#pending.add({ task: taskOf(facts, receipt, part, round), share });
    }
  }

  /**
   * Audits somebody's document now. What it finds wrong is held against the provider; that it is right says nothing about chance,
   * and is not counted.
   * @throws SkeinError `invalid_request` for what is no valid receipt, `overloaded`
   */
  async audit(owner: string, document: ReceiptDocument, signal: AbortSignal): Promise<AuditView[]> {
    const wrong = (await checkDocument(sha256, document)).find(({ problem }) => problem !== null);
    if (wrong !== undefined) {
      throw new SkeinError("invalid_request", `The receipt does not hold together: ${wrong.problem}.`, {
        hint: "`skein verify` says more. Only what its provider has signed can be held against it.",
      });
    }
    const tasks = document.choices.flatMap((answer) =>
      answer.parts.flatMap(({ receipt }, part) =>
        receipt === null || receipt.receipt.tier !== "exact" ? [] : [{ answer, receipt, part }],
      ),
    );
    if (tasks.length === 0) {
      throw new SkeinError("invalid_request", "There is no receipt of the exact tier in it.", {
        hint: "Of other tiers `skein verify --model` says how well an answer fits; evidence is only gathered from answers that chance chose.",
      });
    }
    const views = tasks.map(async ({ answer, receipt, part }) => {
      const facts: AuditFacts = {
        owner,
        answer,
        requestId: document.requestId,
        chosenBy: "request",
        probability: 1,
      };
      const task = taskOf(facts, receipt, part, 0);
      const hash = toHex(task.receiptHash);
      const before = await this.log.find(hash, owner);
      // What was found once is true for ever, and counts once.
      if (before !== null && before.result !== "unable") return before;
      await this.#verdictOn(task, hash);
      return this.log.find(hash, owner);
    });
    return (await bounded(this.#deps, Promise.all(views), signal)).flatMap((view) => view ?? []);
  }

  /**
   * Computes one of several answers to the same question again, now.
   * @param besides the others: evidence, where it is wrong
   * @throws SkeinError `cancelled`
   */
  async judge(
    asked: { readonly owner: string; readonly requestId: string },
    answer: ReceiptedChoice,
    besides: readonly ReceiptedChoice[],
    signal: AbortSignal,
  ): Promise<AuditView["result"]> {
    const results = answer.parts.map(async ({ receipt }, part): Promise<AuditView["result"]> => {
      if (receipt === null || receipt.receipt.tier !== "exact") return "unable";
      const facts: AuditFacts = { ...asked, answer, besides, chosenBy: "dispute", probability: 1 };
      const task = taskOf(facts, receipt, part, 0);
      const hash = toHex(task.receiptHash);
      // What was found once is true for ever, and counts once.
      const before = await this.log.find(hash, asked.owner);
      if (before !== null && before.result !== "unable") return before.result;
      await this.#verdictOn(task, hash);
      return (await this.log.find(hash, asked.owner))?.result ?? "unable";
    });
    const timeIsUp = new Promise<AuditView["result"][]>((resolve) => {
      const cancel = this.#deps.clock.schedule(judgeTimeoutMs, () => resolve(["unable"]));
      void Promise.allSettled(results).then(cancel);
    });
    const all = await bounded(this.#deps, Promise.race([Promise.all(results), timeIsUp]), signal);
    if (all.includes("fail")) return "fail";
    return all.includes("pass") && all.every((result, part) => result === "pass" || isUnsigned(answer, part))
      ? "pass"
      : "unable";
  }

  /** As `judge`, while nobody waits for it. */
  judgeLater(
    asked: { readonly owner: string; readonly requestId: string },
    answer: ReceiptedChoice,
    besides: readonly ReceiptedChoice[],
  ): void {
    this.judge(asked, answer, besides, this.#stop.signal).catch((error: unknown) =>
      this.#warn(error, "an answer that differed is not checked"),
    );
  }

  /**
   * Most of several providers gave another answer, and nobody here can compute it: less than a proof, and treated so.
   * @param votes in words, such as "2 of 3"
   */
  outvoted(
    asked: { owner: string; requestId: string; part: number; position: number; votes: string },
    answer: ReceiptedChoice,
    besides: readonly ReceiptedChoice[],
  ): void {
    const { owner, requestId, part, position, votes } = asked;
    const signed = answer.parts[part]?.receipt;
    if (signed == null) return;
    const facts: AuditFacts = { owner, requestId, answer, besides, chosenBy: "dispute", probability: 1 };
    const finding = {
      kind: "outvoted",
      position: signed.receipt.promptTokens + position,
      layer: null,
    } as const;
    const problem = `${votes} providers gave another answer from token ${position} on`;
    try {
      this.#pending.ask({ ...taskOf(facts, signed, part, 0), finding, problem });
    } catch (error) {
      this.#warn(error, "an answer that differed is not recorded");
    }
  }

  #verdictOn(task: GatewayTask, hash: string): Promise<void> {
    return new Promise((resolve) => {
      const others = this.#awaited.get(hash);
      if (others === undefined) this.#pending.ask(task);
      this.#awaited.set(hash, [...(others ?? []), resolve]);
    });
  }

  async close(): Promise<void> {
    this.#stop.abort(new SkeinError("cancelled", "The gateway stops."));
    this.#beacon.close();
    this.#deps.reputations.close();
    await this.#options.checker.close();
    await this.#options.scales?.close();
    await this.#running;
  }

  #judged({ providerId, outcome, modelId, receiptHash, round, tier }: Verdict): void {
    const { reputations, log } = this.#deps;
    const receipt = toHex(receiptHash);
    if (outcome.result === "fail") {
      const { kind, position } = outcome.finding;
      // Statistics and majorities are no proof: they cost rank.
      if (tier === "float" || kind === "outvoted") {
        reputations.note(providerId, { type: "audit", finding: "improbable" });
        log.warn({ provider: providerId, modelId, receipt, kind, position }, "an answer is improbable");
        return this.#told(providerId, receipt);
      }
      const reason = `audit of ${receipt.slice(0, 12)}…: wrong ${kind} at position ${position}`;
      reputations.note(providerId, { type: "audit", finding: "proved" });
      reputations.exclude(providerId, modelId, { reason, receipt });
      log.error({ provider: providerId, modelId, receipt, kind, position }, "an answer was proved wrong");
    } else if (outcome.result === "pass" && round > 0) {
      reputations.note(providerId, { type: "audit", finding: "none" });
    }
    this.#told(providerId, receipt);
  }

  /** Chosen, but there is no room: that is said, and held against nobody. */
  async #notChecked(task: GatewayTask): Promise<void> {
    const { signer } = this.#options;
    const { receiptHash, modelId, tier, round } = task;
    const auditorId = signer.providerId;
    const salt = this.#deps.random.bytes(saltBytes);
    const work = await workRoot(auditorId, []);
    const verdict: Verdict = {
      auditorId,
      providerId: task.providerId,
      receiptHash,
      modelId,
      tier,
      round,
      outcome: { result: "unable", why: "queue full" },
      commitment: await commitWork(auditorId, receiptHash, { salt, work }),
      issuedAtMs: Math.round(this.#deps.clock.nowMs()),
    };
    const problem = "More answers were chosen than this gateway could check.";
    this.log.explain(task, task.facts, { problem, positions: 0, tookMs: 0 });
    await this.log.append(verdict, await signVerdict(signer, verdict));
  }

  #told(providerId: string, receipt: string): void {
    this.#deps.onJudged(providerId);
    for (const resolve of this.#awaited.get(receipt) ?? []) resolve();
    this.#awaited.delete(receipt);
  }

  #warn(error: unknown, what: string): void {
    if (!this.#stop.signal.aborted) this.#deps.log.warn({ reason: toSkeinError(error).message }, what);
  }
}

function taskOf(facts: AuditFacts, receipt: SignedReceipt, part: number, round: number): GatewayTask {
  const { providerId, modelId, tier } = receipt.receipt;
  return {
    providerId,
    receiptHash: receiptDigest(sha256, receipt.receipt),
    modelId,
    tier: tier === "float" ? "float" : "exact",
    round,
    receipt: { payload: encodeReceipt(receipt), signature: new Uint8Array(receipt.signature) },
    claim: null,
    facts,
    part,
  };
}

/** Whoever dies in the middle leaves no receipt; whoever goes on has read the same. */
function isUnsigned({ parts }: ReceiptedChoice, part: number): boolean {
  return parts[part]!.receipt === null;
}

/** @throws SkeinError `deadline_exceeded`, `cancelled` */
function bounded<T>({ clock }: Pick<Deps, "clock">, result: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new SkeinError("cancelled", "The client went away."));
    const cancel = clock.schedule(askedTimeoutMs, () =>
      reject(
        new SkeinError(
          "deadline_exceeded",
          "The audit has not ended yet; `skein audit list` shows it later.",
        ),
      ),
    );
    signal.addEventListener("abort", onAbort, { once: true });
    result.then(resolve, reject).finally(() => {
      cancel();
      signal.removeEventListener("abort", onAbort);
    });
  });
}
