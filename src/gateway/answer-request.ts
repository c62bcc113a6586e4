/** All choices of one request, side by side, as one stream of events. */
import { fee } from "../protocol/price.ts";
import type { GenerateRequest } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import { answerChoice, type ChoiceDeps, type ChoiceEnd } from "./answer-choice.ts";
import type { CompletionRequest } from "./parse-request.ts";

export type AnswerEvent =
  | { readonly type: "text"; readonly choice: number; readonly text: string }
  | { readonly type: "end"; readonly choice: number; readonly end: ChoiceEnd };

/** What a request consumed in all, once. */
export interface Bill {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly feeAmount: bigint;
}

/**
 * Runs the choices concurrently and yields their events as they come. The first failure ends all.
 *
 * @throws SkeinError the first choice's failure
 */
export async function* answerRequest(
  deps: ChoiceDeps,
  requestId: string,
  request: CompletionRequest,
  signal: AbortSignal,
): AsyncGenerator<AnswerEvent> {
  const together = new AbortController();
  const onAbort = (): void => together.abort(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  // The choices of one prompt go where the first one went: its prompt is in the cache there.
  let preferred: string | null = null;
  const running = choicesOf(requestId, request, deps.limits.requestTimeoutMs).map((choice, index) => {
    const options = {
      model: request.model,
      allowOtherModels: request.allowOtherModels,
      get preferredProviderId() {
        return request.n > 1 ? preferred : null;
      },
      onProvider: (providerId: string) => (preferred ??= providerId),
    };
    return { index, iterator: answerChoice(deps, options, choice, together.signal) };
  });
  try {
    yield* merge(running);
  } finally {
    signal.removeEventListener("abort", onAbort);
    together.abort(new SkeinError("cancelled", "The request ended."));
    // Closing the iterators gives every provider its slot back.
    await Promise.allSettled(running.map(({ iterator }) => iterator.return(undefined as never)));
  }
}

type Running = { readonly index: number; readonly iterator: AsyncGenerator<string, ChoiceEnd> };

async function* merge(running: readonly Running[]): AsyncGenerator<AnswerEvent> {
  const step = async ({ index, iterator }: Running) => ({ index, result: await iterator.next() });
  const pending = new Map(running.map((choice) => [choice.index, step(choice)]));
  while (pending.size > 0) {
    const { index, result } = await Promise.race(pending.values());
    if (result.done === true) {
      pending.delete(index);
      yield { type: "end", choice: index, end: result.value };
    } else {
      pending.set(index, step(running[index]!));
      yield { type: "text", choice: index, text: result.value };
    }
  }
}

function choicesOf(
  requestId: string,
  request: CompletionRequest,
  timeoutMs: number,
): Omit<GenerateRequest, "modelId" | "emitted">[] {
  return request.prompts.flatMap((prompt, promptIndex) =>
    Array.from({ length: request.n }, (_, i) => {
      const index = promptIndex * request.n + i;
      return {
        requestId,
        prompt,
        sampling: { ...request.sampling, seed: choiceSeed(request.sampling.seed, index) },
        stop: request.stop,
        outputTokensMax: request.outputTokensMax,
        timeoutMs,
      };
    }),
  );
}

/** The first choice has the request's own seed; the others' are spread by the golden ratio. */
function choiceSeed(seed: number, index: number): number {
  return (seed + Math.imul(index, 0x9e3779b1)) >>> 0;
}

/** Sums up: the prompt counts once per prompt, however many choices and attempts there were. */
export function billOf(request: CompletionRequest, ends: readonly ChoiceEnd[]): Bill {
  let feeAmount = 0n;
  let promptTokens = 0;
  let cachedTokens = 0;
  let outputTokens = 0;
  ends.forEach((end, index) => {
    const firstOfPrompt = index % request.n === 0;
    if (firstOfPrompt) {
      promptTokens += end.promptTokens;
      cachedTokens += end.cachedTokens;
    }
    outputTokens += end.outputTokens;
    end.slices.forEach((slice, i) => {
      const inputTokens = firstOfPrompt && i === 0 ? end.promptTokens : 0;
      const { outputTokens: tokens, durationMs } = slice;
      feeAmount += fee(slice.offer.price, { inputTokens, outputTokens: tokens, durationMs });
    });
  });
  return { promptTokens, cachedTokens, outputTokens, feeAmount };
}
