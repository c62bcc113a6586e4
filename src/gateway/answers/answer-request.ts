/** All choices of one request, side by side, as one stream of events. */
import { fee } from "../../protocol/price.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Sink } from "../../util/sink.ts";
import { answerChoice, type Choice, type ChoiceEnd } from "./answer-choice.ts";
import { type Answer, answerReplicated } from "../replication/answer-replicated.ts";
import type { Home, Together } from "../search/search.ts";
import type { ChoiceDeps, Slice } from "../attempts/attempt.ts";
import type { LiveChoice } from "../resume/journal.ts";
import type { Piece } from "./logprobs.ts";
import type { CompletionRequest } from "../requests/parse-request.ts";

export type AnswerEvent =
  | ({ readonly type: "text"; readonly choice: number } & Piece)
  | { readonly type: "end"; readonly choice: number; readonly end: ChoiceEnd };

/** What a request consumed in all, once. */
export interface Bill {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly feeAmount: bigint;
}

/**
 * Runs the choices concurrently and tells their events as they come. The first failure ends all.
 *
 * @param lives one per choice where somebody writes down how they go; what they have already comes first
 * @throws SkeinError the first choice's failure
 */
export async function answerRequest(
  deps: ChoiceDeps,
  { requestId, owner, isBatch = false }: { requestId: string; owner: string; isBatch?: boolean },
  request: CompletionRequest,
  signal: AbortSignal,
  lives: readonly LiveChoice[] | null,
  tell: Sink<AnswerEvent>,
): Promise<ChoiceEnd[]> {
  const abort = new AbortController();
  const onAbort = (): void => abort.abort(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  const together: Together = {
    model: request.model,
    modelId: lives?.map(modelIdOf).find((modelId) => modelId !== null) ?? null,
    allowOtherModels: request.allowOtherModels,
    // What a batch has running must not make the same API key's other requests wait.
    owner: isBatch ? `batch:${owner}` : owner,
    isBatch,
    hints: request.hints,
    restartable: !request.stream,
  };
  const one: Answer = (...given) => answerChoice(deps, ...given);
  const { trust } = request.hints;
  const answer: Answer =
    trust?.level === "replicated"
      ? (...given) => answerReplicated(deps, { replicas: trust.replicas, answer: one }, ...given)
      : one;
  /** No provider is to blame when somebody cannot be told. */
  const tellOrEnd: Sink<AnswerEvent> = (event) => {
    try {
      return tell(event);
    } catch (error) {
      abort.abort(toSkeinError(error));
      throw error;
    }
  };
  let failure: { readonly error: unknown } | null = null;
  const ends = choicesOf(requestId, request, lives).map(async (choice) => {
    try {
      return await answerOne(answer, together, choice, abort.signal, tellOrEnd);
    } catch (error) {
      failure ??= { error };
      abort.abort(new SkeinError("cancelled", "Another choice of the request failed."));
      throw error;
    }
  });
  try {
    // Every provider has its slot back before anybody hears of a failure.
    await Promise.allSettled(ends);
    throwIfFailed(failure);
    return await Promise.all(ends);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function throwIfFailed(failure: { readonly error: unknown } | null): void {
  if (failure !== null) throw failure.error;
}

/** What there is of a choice already, then how it goes on. */
async function answerOne(
  answer: Answer,
  together: Together,
  choice: Choice,
  signal: AbortSignal,
  tell: Sink<AnswerEvent>,
): Promise<ChoiceEnd> {
  const { index, live } = choice;
  const from = live?.from ?? null;
  const tellPiece = ({ text, logprobs, offer }: Piece): Promise<void> | undefined =>
    tell({ type: "text", choice: index, text, logprobs, offer });
  if (from !== null && from.progress.text !== "") {
    const { text, slices } = from.progress;
    await tellPiece({ text, logprobs: null, offer: slices.at(-1)?.offer ?? null });
  }
  // Where the request allows other identities, choices may have begun with different ones.
  const own =
    live === null || from === null ? together : { ...together, modelId: modelIdOf(live) ?? together.modelId };
  const end = from?.end ?? (await answer(own, choice, signal, tellPiece));
  if (live !== null) live.end = end;
  await tell({ type: "end", choice: index, end });
  return end;
}

/** The identity that a choice began with, in an earlier process. */
function modelIdOf({ from }: LiveChoice): string | null {
  return from?.progress.slices.at(-1)?.offer.modelId ?? null;
}

function choicesOf(
  requestId: string,
  request: CompletionRequest,
  lives: readonly LiveChoice[] | null,
): Choice[] {
  return request.prompts.flatMap((prompt, promptIndex) => {
    const home: Home | null = request.n > 1 ? { providerId: null } : null;
    return Array.from({ length: request.n }, (_, i) => {
      const index = promptIndex * request.n + i;
      const seed = choiceSeed(request.sampling.seed, index);
      const sampling = { ...request.sampling, seed };
      const { stop, outputTokensMax, constraint, logprobs, toolUse } = request;
      const live = lives?.[index] ?? null;
      const chargesPrompt = i === 0;
      const asked = {
        requestId,
        prompt,
        sampling,
        stop,
        outputTokensMax,
        constraint,
        logprobs,
        chargesPrompt,
        ...(toolUse === undefined ? {} : { toolUse }),
      };
      return { index, request: asked, home, live };
    });
  });
}

/** The first choice has the request's own seed; the others' are spread by the golden ratio. */
function choiceSeed(seed: number, index: number): number {
  return (seed + Math.imul(index, 0x9e3779b1)) >>> 0;
}

/** Sums up: the prompt counts once per prompt, however many choices and attempts there were. */
export function billOf(request: CompletionRequest, ends: readonly ChoiceEnd[]): Bill {
  let promptTokens = 0;
  let cachedTokens = 0;
  let outputTokens = 0;
  // One rounding per provider and price, not one per choice.
  const charges = new Map<
    string,
    { slice: Slice; inputTokens: number; outputTokens: number; durationMs: number }
  >();
  ends.forEach((end, index) => {
    const isFirstOfPrompt = index % request.n === 0;
    if (isFirstOfPrompt) {
      promptTokens += end.promptTokens;
      cachedTokens += end.cachedTokens;
    }
    outputTokens += end.outputTokens;
    // Of several replicas each is paid for what it did.
    for (const { slices, promptTokens: read } of [end, ...(end.replication?.alsoPaid ?? [])]) {
      slices.forEach((slice, i) => {
        const { inputPerMillionTokens, outputPerMillionTokens, perSecond } = slice.offer.price;
        const key = [slice.providerId, inputPerMillionTokens, outputPerMillionTokens, perSecond].join();
        const charge = charges.get(key) ?? { slice, inputTokens: 0, outputTokens: 0, durationMs: 0 };
        charges.set(key, charge);
        if (isFirstOfPrompt && i === 0) charge.inputTokens += read;
        charge.outputTokens += slice.outputTokens;
        charge.durationMs += slice.durationMs;
      });
    }
  });
  let feeAmount = 0n;
  for (const { slice, ...consumption } of charges.values()) feeAmount += fee(slice.offer.price, consumption);
  const percent = BigInt(request.feePercent ?? 100);
  return { promptTokens, cachedTokens, outputTokens, feeAmount: (feeAmount * percent + 99n) / 100n };
}
