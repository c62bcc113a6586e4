/** All choices of one request, side by side, as one stream of events. */
import { fee } from "../../protocol/price.ts";
import { SkeinError } from "../../util/errors.ts";
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

type Texts = AsyncGenerator<Piece, ChoiceEnd>;

/**
 * Runs the choices concurrently and yields their events as they come. The first failure ends all.
 *
 * @param lives one per choice where somebody writes down how they go; what they have already comes first
 * @throws SkeinError the first choice's failure
 */
export async function* answerRequest(
  deps: ChoiceDeps,
  { requestId, owner, isBatch = false }: { requestId: string; owner: string; isBatch?: boolean },
  request: CompletionRequest,
  signal: AbortSignal,
  lives: readonly LiveChoice[] | null = null,
): AsyncGenerator<AnswerEvent> {
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
  const one: Answer = (shared, choice, ended) => answerChoice(deps, shared, choice, ended);
  const { trust } = request.hints;
  const answer: Answer =
    trust?.level === "replicated"
      ? (shared, choice, ended) =>
          answerReplicated(deps, shared, choice, { replicas: trust.replicas, answer: one }, ended)
      : one;
  const choices = choicesOf(requestId, request, lives).map((choice) =>
    told(choice, (again) => answer(again ?? together, choice, abort.signal), together),
  );
  try {
    if (choices.length > 1) return yield* merge(choices);
    // Not by another generator: every token would pass through it.
    for (const choice = choices[0]!; ;) {
      const { done, value } = await choice.next();
      if (done === true) return yield { type: "end", choice: 0, end: value };
      yield { type: "text", choice: 0, ...value };
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    abort.abort(new SkeinError("cancelled", "The request ended."));
    // Closing the iterators gives every provider its slot back.
    await Promise.allSettled(choices.map((choice) => choice.return(undefined as never)));
  }
}

/** Each choice is asked for its next event only after the one before was taken: back-pressure reaches all. */
async function* merge(choices: readonly Texts[]): AsyncGenerator<AnswerEvent> {
  const ready: AnswerEvent[] = [];
  let failure: { readonly error: unknown } | null = null;
  let wake = (): void => undefined;
  const advance = (index: number): void => {
    choices[index]!.next().then(
      ({ done, value }) => {
        ready.push(
          done === true
            ? { type: "end", choice: index, end: value }
            : { type: "text", choice: index, ...value },
        );
        wake();
      },
      (error: unknown) => {
        failure ??= { error };
        wake();
      },
    );
  };
  choices.forEach((_, index) => advance(index));
  for (let open = choices.length; open > 0;) {
    throwIfFailed(failure);
    const event = ready.shift();
    if (event === undefined) {
      await new Promise<void>((resolve) => (wake = resolve));
      continue;
    }
    yield event;
    if (event.type === "end") open -= 1;
    else advance(event.choice);
  }
}

function throwIfFailed(failure: { readonly error: unknown } | null): void {
  if (failure !== null) throw failure.error;
}

/** The identity that a choice began with, in an earlier process. */
function modelIdOf({ from }: LiveChoice): string | null {
  return from?.progress.slices.at(-1)?.offer.modelId ?? null;
}

/** What there is of a choice already, then how it goes on. */
function told({ live }: Choice, goOn: (together: Together | null) => Texts, together: Together): Texts {
  const from = live?.from ?? null;
  // Not by another generator: every token would pass through it.
  return live === null || from === null ? goOn(null) : toldFirst(live, from, goOn, together);
}

async function* toldFirst(
  live: LiveChoice,
  from: NonNullable<LiveChoice["from"]>,
  goOn: (together: Together | null) => Texts,
  together: Together,
): Texts {
  if (from.progress.text !== "") {
    yield { text: from.progress.text, logprobs: null, offer: from.progress.slices.at(-1)?.offer ?? null };
  }
  if (from.end !== null) return from.end;
  // Where the request allows other identities, choices may have begun with different ones.
  return yield* goOn({ ...together, modelId: modelIdOf(live) ?? together.modelId });
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
