/** What all sources of the gateway benchmark send: one token for every stream at each step, the first one at once. */
import { chunkObjects } from "../../src/gateway/answers/format.ts";
import type { CompletionRequest } from "../../src/gateway/requests/parse-request.ts";

export const tokensPerSecond = 20;
export const stepMs: number = 1000 / tokensPerSecond;
/**
 * Tokens of an answer: three seconds, so that streams begin and end all the time; of one stream alone only two, because it is
 * measured for its first tokens.
 */
export function answerTokensOf(streams: number): number {
  return streams === 1 ? 2 : 60;
}
export const modelName = "naive";
/** Streams whose tokens come in the same step, as in a batch of one machine. */
export const streamsPerMachine = 100;

/** At first steps are this short: what is measured has been running for long, and its code is compiled. */
const warmUpStepMs = 5;
export const warmUpMs = 8_000;

/** One machine's steps. */
export class Stepper {
  #waiting: (() => void)[] = [];

  constructor(offsetMs: number) {
    const step = (): void => {
      for (const wake of this.#waiting.splice(0)) wake();
    };
    const warming = setInterval(step, warmUpStepMs);
    setTimeout(() => {
      clearInterval(warming);
      setInterval(step, stepMs);
    }, warmUpMs + offsetMs);
  }

  next(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

/** As many as the streams need, their steps spread over time. */
export function steppersFor(streams: number): Stepper[] {
  const count = Math.ceil(streams / streamsPerMachine);
  return Array.from({ length: count }, (_, i) => new Stepper((i * stepMs) / count));
}

/** Chunks as our gateway writes them, so that every source has the same bytes to send. */
export function chunksOf(requestId: string) {
  const request = { endpoint: "chat", model: modelName, includeUsage: false } as CompletionRequest;
  return chunkObjects({ requestId, createdMs: 0, request, cloudPrice: null });
}
