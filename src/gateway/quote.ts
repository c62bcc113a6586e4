/** POST /v1/quote: what a request would cost at each provider, before it is sent. */
import type { QuoteView } from "../protocol/gateway-api.ts";
import type { Prompt } from "../protocol/generate.ts";
import { fee } from "../protocol/price.ts";
import { planAttempts } from "../router/plan.ts";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import type { CompleteDeps } from "./complete.ts";
import { parseBody } from "./parse-body.ts";
import { type CompletionRequest, parseChatRequest, parseTextRequest } from "./parse-request.ts";
import { feeView, priceView } from "./views.ts";

const countTimeoutMs = 10_000;

export async function quote(deps: CompleteDeps, http: Request): Promise<QuoteView> {
  const body = await parseBody(http);
  const request =
    "prompt" in body ? parseTextRequest(body, deps.random) : parseChatRequest(body, deps.random);
  const modelId = deps.directory.identityOf(request.model);
  const candidates = deps.directory.candidates(request.model, modelId).filter(({ cooling }) => !cooling);
  if (candidates.length === 0) {
    throw new SkeinError(
      "model_not_found",
      `The model '${request.model.slice(0, 100)}' is not served by any provider now.`,
      {
        param: "model",
        hint: "GET /v1/models lists what is served.",
      },
    );
  }
  const inputTokens = await countInput(deps, request, modelId);
  const perPrompt = Math.ceil(inputTokens / request.prompts.length);
  const choices = request.n * request.prompts.length;
  const offers = candidates.map(({ providerId, offer }) => {
    const longest = Math.max(0, offer.contextTokensMax - perPrompt);
    const outputTokensMax = choices * Math.min(request.outputTokensMax ?? longest, longest);
    const view = (outputTokens: number) =>
      feeView(
        fee(offer.price, { inputTokens, outputTokens, durationMs: 0 }),
        { inputTokens, outputTokens },
        deps.cloudPrice,
      );
    return {
      outputTokensMax,
      feeMax: fee(offer.price, { inputTokens, outputTokens: outputTokensMax, durationMs: 0 }),
      view: {
        provider: providerId,
        model_id: offer.modelId,
        engine: offer.engine,
        price: priceView(offer.price),
        fee_min: view(0),
        fee_max: view(outputTokensMax),
      },
    };
  });
  return {
    object: "quote",
    model: request.model,
    input_tokens: inputTokens,
    output_tokens_max: Math.max(...offers.map((offer) => offer.outputTokensMax)),
    offers: offers.toSorted((a, b) => (a.feeMax < b.feeMax ? -1 : 1)).map(({ view }) => view),
  };
}

async function countInput(
  deps: CompleteDeps,
  request: CompletionRequest,
  modelId: string | null,
): Promise<number> {
  const counts = await Promise.all(
    request.prompts.map((prompt) => countPrompt(deps, request.model, modelId, prompt)),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Asks providers one after another: only they have the tokenizer. */
async function countPrompt(
  deps: CompleteDeps,
  model: string,
  modelId: string | null,
  prompt: Prompt,
): Promise<number> {
  let failure = new SkeinError("no_provider", `No provider of '${model.slice(0, 100)}' answers.`);
  for (const { providerId, offer } of planAttempts(deps.directory.candidates(model, modelId), deps.random)) {
    const session = deps.directory.entryOf(providerId)?.session;
    if (session === undefined) continue;
    try {
      return await session.countPromptTokens(offer.modelId, prompt, AbortSignal.timeout(countTimeoutMs));
    } catch (error) {
      failure = toSkeinError(error, "provider_failed");
      if (failure.retry === "never") throw failure;
    }
  }
  throw failure;
}
