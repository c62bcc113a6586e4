/**
 * The provider of last resort: an OpenAI-compatible cloud of the operator's, within a daily budget, never for
 * requests marked private. It takes only the beginning of an answer: nobody can continue another model's.
 */
import type { Engine } from "../../engine/port.ts";
import type { ProviderSession } from "../../network/session.ts";
import type { GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import type { ModelOffer } from "../../protocol/offer.ts";
import { fee, type PriceSheet } from "../../protocol/price.ts";
import { noRegion, refusedByHints } from "../../router/hints.ts";
import { SkeinError, type SkeinErrorOptions } from "../../util/errors.ts";
import type { Sink } from "../../util/sink.ts";
import type { ChoiceRequest } from "../attempts/attempt.ts";
import { type Decision, type Occupied, occupiedBy, type Wish } from "./choose-provider.ts";
import { believedOutputTokens, believedPromptTokens } from "./claims.ts";
import type { DailyBudget } from "./daily-budget.ts";
import { candidateOf } from "../directory/candidate.ts";
import type { Directory } from "../directory/directory.ts";
import type { FairShare } from "./fair-share.ts";
import type { GatewayMetrics } from "../metrics.ts";
import { ProviderEntry } from "../directory/provider-entry.ts";
import { reasonWords } from "./refusals.ts";

export interface CloudOptions {
  readonly engine: Engine;
  /** Names of models that it may stand in for. */
  readonly models: readonly string[];
  readonly price: PriceSheet;
  readonly budget: DailyBudget;
  /** Used without waiting when more requests than this stand in line; null: only when all else failed. */
  readonly lineAbove: number | null;
  /** Used when the best provider's predicted first token is later; null: never for that. */
  readonly ttftAboveMs: number | null;
}

/** How the cloud is named where providers are named. */
export const cloudProviderId = "cloud";

export class Cloud {
  readonly #options: CloudOptions;
  readonly #deps: { directory: Directory; share: FairShare };
  readonly #entries = new Map<string, { entry: ProviderEntry; offer: ModelOffer }>();

  constructor(deps: { directory: Directory; share: FairShare }, options: CloudOptions) {
    this.#deps = deps;
    this.#options = options;
    for (const name of options.models) {
      const { model, kind } = options.engine;
      const own = { engine: kind, resumable: false, forwardsPrompts: true, price: options.price } as const;
      const offer: ModelOffer = { ...model, ...own, name };
      this.#entries.set(name, { entry: new ProviderEntry(new CloudSession(options, offer), 0), offer });
    }
  }

  /** What it answers for, as long as its upstream does. */
  get offers(): readonly ModelOffer[] {
    if (this.#options.engine.status().state !== "ready") return [];
    return [...this.#entries.values()].map(({ offer }) => offer);
  }

  /** Why it does not take a request for a model that it stands in for; null: it takes it, or has nothing to do with it. */
  whyNot({ model, isResumed, hints, request }: Wish): SkeinError | null {
    const offer = this.#entries.get(model)?.offer;
    if (offer === undefined) return null;
    const { engine, budget } = this.#options;
    if (isResumed) return notByCloud(model, "has another model, which cannot go on with this answer", {});
    if (engine.status().state !== "ready") return notByCloud(model, "does not answer", {});
    const excluded = refusedByHints(cloudProviderId, noRegion, offer, hints);
    if (excluded !== null) {
      return notByCloud(model, `is ${reasonWords[excluded]}`, { param: "skein" });
    }
    const most = mostOf(offer, request);
    if (most > budget.limit) {
      return notByCloud(model, "may spend less in a day than this request could cost", {
        param: "max_tokens",
        hint: "Ask for fewer tokens, or raise cloudDailyBudget in the gateway's configuration.",
      });
    }
    if (budget.spentToday + most <= budget.limit) return null;
    return notByCloud(model, "has spent its budget of the day", {
      hint: "Another day begins at midnight UTC.",
      retryAfterSeconds: budget.secondsLeft,
    });
  }

  /** Whether it is better than waiting, before all else failed. */
  isBetter(line: number, predictedTtftMs: number | null): boolean {
    const { lineAbove, ttftAboveMs } = this.#options;
    if (lineAbove !== null && line > lineAbove) return true;
    return ttftAboveMs !== null && predictedTtftMs !== null && predictedTtftMs > ttftAboveMs;
  }

  /** Null: it is not for this request, or the day's money is spent. */
  occupy(wish: Wish, { keys }: Decision): Occupied | null {
    const own = this.#entries.get(wish.model);
    if (own === undefined || wish.tried.has(cloudProviderId)) return null;
    if (this.whyNot(wish) !== null) return null;
    const { entry } = own;
    const candidate = candidateOf(own, this.#deps.directory.policy);
    const chosen = {
      candidate,
      owner: wish.owner,
      isBatch: wish.isBatch,
      predictedTtftMs: 0,
      keys,
      expectedCachedTokens: 0,
    };
    return occupiedBy(this.#deps.share, chosen, entry);
  }
}

/** Tells the operator what the cloud costs. */
export function watchBudget({ watch }: Pick<GatewayMetrics, "watch">, budget: DailyBudget): void {
  const spent = "What the cloud of last resort has cost today (UTC), or may by what runs.";
  watch("skein_cloud_spent_nanousd", spent, () => Number(budget.spentToday));
  watch("skein_cloud_budget_nanousd", "What it may cost per day.", () => Number(budget.limit));
}

/** Where nobody but the cloud is left, and that does not take the request. */
function notByCloud(model: string, why: string, options: SkeinErrorOptions): SkeinError {
  const who = `No provider of '${model.slice(0, 100)}' is there, and this gateway's cloud of last resort`;
  return new SkeinError("no_provider", `${who} ${why}.`, { retry: "never", ...options });
}

/** What a request can cost at most. */
function mostOf(offer: ModelOffer, request: Pick<ChoiceRequest, "prompt" | "outputTokensMax">): bigint {
  const inputTokens = believedPromptTokens(Number.MAX_SAFE_INTEGER, request.prompt);
  const outputTokens = Math.min(request.outputTokensMax ?? offer.contextTokensMax, offer.contextTokensMax);
  return fee(offer.price, { inputTokens, outputTokens, durationMs: 0 });
}

/** The cloud as the path of every request sees it: like any provider's session. */
class CloudSession implements ProviderSession {
  readonly providerId: string = cloudProviderId;
  readonly remoteAddress = "cloud";
  readonly roundTripMs = 0;
  readonly closed = false;
  readonly offer: NonNullable<ProviderSession["offer"]>;
  readonly #options: CloudOptions;

  constructor(options: CloudOptions, model: ModelOffer) {
    this.#options = options;
    this.offer = {
      providerId: cloudProviderId,
      sequence: 0,
      issuedAtMs: 0,
      expiresAtMs: Number.MAX_SAFE_INTEGER,
      region: "",
      models: [model],
    };
  }

  get status(): ProviderSession["status"] {
    return { ...this.#options.engine.load(), ready: true, reason: "" };
  }

  async generate(request: GenerateRequest, signal: AbortSignal, sink: Sink<GenerateEvent>): Promise<void> {
    const { engine, budget } = this.#options;
    const offer = this.offer.models[0]!;
    const most = mostOf(offer, request);
    const settle = budget.reserve(most);
    if (settle === null) throw new SkeinError("overloaded", "The cloud's budget of the day is spent.");
    // Before it begins it may have read the prompt; a cut answer may cost as much as a whole one.
    let cost = mostOf(offer, { ...request, outputTokensMax: 0 });
    let text = "";
    try {
      for await (const event of engine.generate(request, signal)) {
        if (event.type === "start") cost = most;
        if (event.type === "tokens") text += event.text;
        if (event.type === "end") {
          const inputTokens = believedPromptTokens(event.promptTokens, request.prompt);
          const outputTokens = believedOutputTokens(event.outputTokens, text, request);
          cost = fee(offer.price, { inputTokens, outputTokens, durationMs: 0 });
          settle(cost);
        }
        await sink(event);
      }
    } finally {
      settle(cost);
    }
  }

  countPromptTokens(
    ...[, prompt, signal]: Parameters<ProviderSession["countPromptTokens"]>
  ): Promise<number> {
    return this.#options.engine.countPromptTokens(prompt, signal);
  }

  onChange(): void {}
  onClose(): void {}
  close(): void {}
}
