/** One request for embeddings inside the thread: its inputs are sequences of the batch that draw nothing. */
import { embeddingFraction, embeddingOf } from "../../exact/embedding.ts";
import type { NormWeights } from "../../exact/model/model.ts";
import { type Embedded, type EmbedRequest, vectorBytes } from "../../protocol/embed.ts";
import { type GenerateRequest, greedySampling } from "../../protocol/generate.ts";
import { type SkeinError, toSkeinError } from "../../util/errors.ts";
import { checkInputLength, dimensionsKept } from "../embedding.ts";
import { tokenizePrompt } from "../prompt.ts";
import type { BatchLoop } from "./batch-loop.ts";
import type { LoadedModel } from "./load.ts";
import { Sequence } from "./sequence.ts";

/** Inputs of one request that are evaluated together: more would keep answers waiting. */
const togetherMax = 8;

export class EmbedRun {
  readonly #loaded: LoadedModel;
  readonly #loop: BatchLoop;
  readonly #settle: (result: Embedded | SkeinError) => void;
  readonly #request: EmbedRequest;
  readonly #id: number;
  readonly #inputs: readonly number[][];
  readonly #vectors: Uint8Array[] = [];
  readonly #running = new Set<Sequence>();
  readonly #norm: NormWeights;
  readonly #startMs = performance.now();
  #next = 0;
  #done = 0;

  /**
   * @param settle called once with what came of it, unless it is cancelled
   * @throws SkeinError when it cannot begin
   */
  constructor(
    { loaded, loop }: { loaded: LoadedModel; loop: BatchLoop },
    id: number,
    request: EmbedRequest,
    settle: (result: Embedded | SkeinError) => void,
  ) {
    const { executor, facts, prompt } = loaded;
    dimensionsKept(request.dimensions, executor.shape.dim, false);
    this.#loaded = loaded;
    this.#loop = loop;
    this.#id = id;
    this.#request = request;
    this.#settle = settle;
    this.#norm = executor.outputNorm()!;
    this.#inputs = request.inputs.map((input) => tokenizePrompt(prompt, input));
    for (const { length } of this.#inputs) checkInputLength(length, facts.contextTokensMax);
  }

  /** @throws SkeinError `overloaded` */
  begin(): void {
    while (this.#running.size < togetherMax && this.#next < this.#inputs.length) this.#add(this.#next++);
  }

  /** Nothing is evaluated for it any more. */
  cancel(): void {
    for (const sequence of this.#running) this.#loop.remove(sequence);
    this.#running.clear();
    this.#next = this.#inputs.length;
  }

  #add(index: number): void {
    const { facts, vocabulary, executor } = this.#loaded;
    const promptTokens = this.#inputs[index]!;
    const sequence: Sequence = new Sequence(
      {
        id: this.#id,
        request: requestOf(this.#request),
        promptTokens,
        contextTokens: facts.contextTokensMax,
        mask: null,
        reading: {
          done: (residual) => {
            const components = embeddingOf(residual, this.#norm, executor.shape);
            this.#take(sequence, index, components);
          },
          fail: (error) => {
            this.cancel();
            this.#settle(error);
          },
        },
      },
      vocabulary,
    );
    this.#loop.add(sequence);
    this.#running.add(sequence);
  }

  #goOn(): void {
    try {
      this.begin();
    } catch (error) {
      this.cancel();
      this.#settle(toSkeinError(error, "engine_failed"));
    }
  }

  #take(sequence: Sequence, index: number, components: Int32Array): void {
    this.#vectors[index] = vectorBytes(
      Float64Array.from(components, (value) => value / 2 ** embeddingFraction),
    );
    this.#running.delete(sequence);
    this.#done += 1;
    // Not within the step that told of it.
    if (this.#done < this.#inputs.length) return queueMicrotask(() => this.#goOn());
    const promptTokens = this.#inputs.reduce((sum, { length }) => sum + length, 0);
    const durationMs = Math.round(performance.now() - this.#startMs);
    this.#settle({ vectors: this.#vectors, promptTokens, durationMs });
  }
}

/** Nothing is drawn: only what is read counts. */
function requestOf({ requestId, modelId, cacheSalt, timeoutMs }: EmbedRequest): GenerateRequest {
  return {
    requestId,
    modelId,
    prompt: { kind: "text", text: "" },
    emitted: { tokenIds: [], text: "" },
    sampling: greedySampling,
    stop: [],
    constraint: null,
    logprobs: null,
    outputTokensMax: 1,
    timeoutMs,
    ...(cacheSalt === undefined ? {} : { cacheSalt }),
  };
}
