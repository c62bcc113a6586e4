/** POST /v1/quote: what a request would cost at each provider, before it is sent. */
import type { QuoteView } from "../../protocol/gateway-api.ts";
import type { Prompt } from "../../protocol/generate.ts";
import { fee } from "../../protocol/price.ts";
import { refusedByHints, type TrustWish } from "../../router/hints.ts";
import { planAttempts, typicalRequest } from "../../router/plan.ts";
import type { Candidate } from "../../router/predict.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { CompleteDeps } from "../answers/complete.ts";
import { withHeaderHints } from "./header-hints.ts";
import { trustName } from "./parse-hints.ts";
import { parseBody } from "./parse-body.ts";
import { type CompletionRequest, parseChatRequest, parseTextRequest } from "./parse-request.ts";
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
    // Receipts and audits cost whoever asks nothing: providers are paid for answers, and the gateway audits.
    trust: { asked: trustName(hints.trust), fee: feeView(0n, { inputTokens: 0, outputTokens: 0 }, null) },
    output_tokens_max: Math.max(...offers.map((offer) => offer.outputTokensMax)),
    offers: offers.map(({ view }) => view),
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

function isFit(
  { directory, audits }: CompleteDeps,
  { hints }: CompletionRequest,
  candidate: Candidate,
): boolean {
  if (directory.isExcluded(candidate.providerId, candidate.offer.modelId)) return false;
  const mustAudit = hints.trust?.level === "audit";
  if (mustAudit && audits?.hasModel(candidate.offer.modelId) !== true) return false;
  const region = directory.entryOf(candidate.providerId)?.session.offer?.region ?? "";
  return refusedByHints(candidate.providerId, region, candidate.offer, hints) === null;
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
  const modelId = directory.identityOf(request.model);
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
