/** POST /v1/quote: what a request would cost at each provider, before it is sent. */
import type { FeeView, QuoteView } from "../../protocol/gateway-api.ts";
import type { Prompt } from "../../protocol/generate.ts";
import { fee } from "../../protocol/price.ts";
import type { TrustWish } from "../../router/hints.ts";
import { planAttempts, typicalRequest } from "../../router/plan.ts";
import type { Candidate } from "../../router/predict.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { CompleteDeps } from "../answers/complete.ts";
import { withHeaderHints } from "./header-hints.ts";
import { trustName } from "./parse-hints.ts";
import { parseBody } from "./parse-body.ts";
import { type CompletionRequest, parseChatRequest, parseTextRequest } from "./parse-request.ts";
import { enoughProviders } from "../replication/enough.ts";
import { refusedForGood } from "../search/choose-provider.ts";
import { noProvider, notOffered } from "../search/refusals.ts";
import { Stopwatch } from "../attempts/stopwatch.ts";
import { feeView, priceView } from "../answers/views.ts";

const countTimeoutMs = 10_000;

export async function quote(deps: CompleteDeps, http: Request, owner: string): Promise<QuoteView> {
  // 1. The same body as the completion's, checked alike.
  const body = withHeaderHints(await parseBody(http), http.headers);
  const given = "prompt" in body ? parseTextRequest(body, deps.random) : parseChatRequest(body, deps.random);
  const hints = deps.access.hintsFor(owner, given.hints);
  const request = { ...given, hints, model: deps.access.resolve(owner, given.model) };
  // 2. Who would serve it, and what they count.
  const { candidates, counts } = await countAt(deps, request, http.signal);
  const inputTokens = counts.reduce((sum, count) => sum + count, 0);
  // 3. Each provider's own sheet.
  const offers = candidates
    .map((candidate) => offerOf(deps, request, counts, candidate))
    .toSorted((a, b) => (a.feeMax < b.feeMax ? -1 : Number(a.feeMax > b.feeMax)));
  return {
    object: "quote",
    model: request.model,
    input_tokens: inputTokens,
    trust: { asked: trustName(hints.trust), fee: trustFee(offers, replicasOf(request)) },
    total: totalOf(offers, replicasOf(request)),
    output_tokens_max: Math.max(...offers.map((offer) => offer.outputTokensMax)),
    offers: offers.map(({ view }) => view),
  };
}

function replicasOf({ hints: { trust } }: CompletionRequest): number {
  return trust?.level === "replicated" ? trust.replicas : 1;
}

type Priced = ReturnType<typeof offerOf>;

/**
 * Receipts and audits cost whoever asks nothing: providers are paid for answers, and the gateway audits. Of several replicas each
 * is paid.
 * @param offers cheapest first
 */
function trustFee(offers: readonly Priced[], replicas: number): FeeView {
  const others = offers.slice(-replicas).slice(0, replicas - 1);
  const amount = others.reduce((sum, { feeMax }) => sum + feeMax, 0n);
  return feeView(amount, { inputTokens: 0, outputTokens: 0 }, null);
}

/** What all replicas cost: the question alone at the cheapest, the longest answer at the dearest. */
function totalOf(offers: readonly Priced[], replicas: number): QuoteView["total"] {
  const sum = (fees: readonly bigint[]): FeeView =>
    feeView(
      fees.reduce((all, amount) => all + amount, 0n),
      { inputTokens: 0, outputTokens: 0 },
      null,
    );
  const least = offers.map(({ feeMin }) => feeMin).toSorted((a, b) => (a < b ? -1 : Number(a > b)));
  return {
    fee_min: sum(least.slice(0, replicas)),
    fee_max: sum(offers.slice(-replicas).map(({ feeMax }) => feeMax)),
  };
}

/** Priced as nothing, since nobody gives it. */
function noTrusted(trust: TrustWish): SkeinError {
  return new SkeinError(
    "no_provider",
    `Nobody can serve this model with the trust '${trustName(trust)}' now.`,
    {
      param: "skein.trust",
      hint: "`skein models` shows which models are exact.",
      retry: "never",
    },
  );
}

function isFit(deps: CompleteDeps, { hints }: CompletionRequest, { providerId, offer }: Candidate): boolean {
  const entry = deps.directory.entryOf(providerId);
  return entry !== undefined && refusedForGood(deps, { entry, offer }, hints) === null;
}

/** POST /v1/count_tokens: the body of a completion → how many tokens its prompt has. */
export async function countView(deps: CompleteDeps, http: Request, owner: string) {
  const body = withHeaderHints(await parseBody(http), http.headers);
  const given = "prompt" in body ? parseTextRequest(body, deps.random) : parseChatRequest(body, deps.random);
  const request = { ...given, model: deps.access.resolve(owner, given.model) };
  const inputTokens = await countTokens(deps, request, http.signal);
  return { object: "token_count", model: request.model, input_tokens: inputTokens };
}

/** Tokens of a request's prompts, as the model's own tokenizer and template make them. @throws SkeinError */
export async function countTokens(
  deps: CompleteDeps,
  request: CompletionRequest,
  signal: AbortSignal,
): Promise<number> {
  const { counts } = await countAt(deps, request, signal);
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Only providers have the tokenizer; all of one identity count alike. */
async function countAt(deps: CompleteDeps, request: CompletionRequest, signal: AbortSignal) {
  const { directory } = deps;
  const replicas = replicasOf(request);
  const enough = replicas > 1 ? enoughProviders(deps, request, replicas) : null;
  const modelId = enough?.modelId ?? directory.identityOf(request.model);
  if (modelId === null) throw notOffered(directory, request.model);
  const candidates = directory
    .candidates(request.model, modelId)
    .filter((candidate) => !candidate.cooling && isFit(deps, request, candidate));
  const { trust } = request.hints;
  if (candidates.length === 0) throw trust === null ? noProvider(request.model) : noTrusted(trust);
  const counts = await Promise.all(
    request.prompts.map((prompt) => countPrompt(deps, candidates, prompt, signal)),
  );
  return { candidates, counts };
}

function offerOf(
  deps: CompleteDeps,
  request: CompletionRequest,
  counts: readonly number[],
  { providerId, offer }: Candidate,
) {
  const inputTokens = counts.reduce((sum, count) => sum + count, 0);
  const outputTokensMax = counts.reduce((sum, count) => {
    const room = Math.max(0, offer.contextTokensMax - count);
    return sum + request.n * Math.min(request.outputTokensMax ?? room, room);
  }, 0);
  const amount = (outputTokens: number): bigint =>
    fee(offer.price, { inputTokens, outputTokens, durationMs: 0 });
  const view = (outputTokens: number) =>
    feeView(amount(outputTokens), { inputTokens, outputTokens }, deps.cloudPrice);
  return {
    outputTokensMax,
    feeMin: amount(0),
    feeMax: amount(outputTokensMax),
    view: {
      provider: providerId,
      model_id: offer.modelId,
      engine: offer.engine,
      price: priceView(offer.price),
      fee_min: view(0),
      fee_max: view(outputTokensMax),
    },
  };
}

/** Asks providers one after another. */
async function countPrompt(
  deps: CompleteDeps,
  candidates: readonly Candidate[],
  prompt: Prompt,
  signal: AbortSignal,
): Promise<number> {
  let failure: SkeinError | null = null;
  // A full one can still count.
  const idle = candidates.map((candidate) => ({ ...candidate, active: 0, queued: 0 }));
  const { attempts } = planAttempts(idle, typicalRequest, deps.random);
  for (const { candidate } of attempts) {
    const { providerId, offer } = candidate;
    const session = deps.directory.entryOf(providerId)?.session;
    if (session === undefined) continue;
    const guard = new Stopwatch(deps.clock).guard(signal);
    guard.limit(countTimeoutMs, "count the prompt");
    try {
      return await session.countPromptTokens(offer.modelId, prompt, guard.signal);
    } catch (error) {
      failure = toSkeinError(error, "provider_failed");
      if (failure.retry === "never") throw failure;
    } finally {
      guard.release();
    }
  }
  throw failure ?? noProvider(candidates[0]!.offer.name);
}
