/** Embeddings by llama.cpp, in a context of its own beside the one that answers: made when it is first asked for. */
import { type Embedded, type EmbedRequest, vectorBytes } from "../../protocol/embed.ts";
import { SkeinError } from "../../util/errors.ts";
import { checkInputLength, dimensionsKept, unitVector } from "../embedding.ts";
import { type FromHost, toWire } from "../hosted/messages.ts";
import { batchTokensMax } from "./batch-plan.ts";
import type { EmbeddingContext } from "./binding.ts";
import type { LoadedModel } from "./load.ts";

/** Longer inputs are read as badly by most models as they are rare. */
const inputTokensMax = 8_192;
/** `llama_pooling_type`: of these, only the last token's vector counts, so that an input may be read in several batches. */
const lastTokenPooling: readonly unknown[] = [undefined, 0, 3];
/** What tags of a model's card say when the first components are vectors by themselves. */
const matryoshkaTag = "matryoshka";

interface Waiting {
  readonly id: number;
  readonly request: EmbedRequest;
  readonly inputs: readonly number[][];
}

export class Embedder {
  readonly #loaded: LoadedModel;
  readonly #send: (message: FromHost) => void;
  #context: Promise<EmbeddingContext> | null = null;
  #waiting: Waiting[] = [];
  #running: number | null = null;

  constructor(loaded: LoadedModel, send: (message: FromHost) => void) {
    this.#loaded = loaded;
    this.#send = send;
  }

  /** Requests are done one after the other. @param inputs token ids, with the token that begins a text */
  add(waiting: Waiting): void {
    for (const { length } of waiting.inputs) checkInputLength(length, this.#tokensMax - reservedTokens);
    this.#waiting.push(waiting);
    if (this.#waiting.length === 1 && this.#running === null) void this.#run();
  }

  /** Answered with `failed`; an input that is being read is finished first. */
  cancel(id: number): void {
    if (this.#running === id) this.#running = -1;
    const isWaiting = this.#waiting.some((waiting) => waiting.id === id);
    this.#waiting = this.#waiting.filter((waiting) => waiting.id !== id);
    if (isWaiting) this.#fail(id, cancelled());
  }

  get #tokensMax(): number {
    return Math.min(this.#loaded.contextTokens, inputTokensMax);
  }

  async #run(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      this.#running = next.id;
      try {
        this.#send({ type: "embedded", id: next.id, embedded: await this.#embed(next) });
      } catch (error) {
        this.#fail(next.id, error);
      }
      this.#running = null;
    }
  }

  async #embed({ id, request, inputs }: Waiting): Promise<Embedded> {
    const context = await (this.#context ??= this.#create());
    const startMs = performance.now();
    const vectors: Uint8Array[] = [];
    let promptTokens = 0;
    for (const input of inputs) {
      if (this.#running !== id) throw cancelled();
      promptTokens += context.calculateInputLength([...input]);
      const { vector } = await context.getEmbeddingFor([...input]);
      const count = dimensionsKept(request.dimensions, vector.length, this.#isMatryoshka);
      vectors.push(vectorBytes(unitVector(vector, count)));
      // A sign of life.
      this.#send({ type: "step", events: [] });
    }
    return { vectors, promptTokens, durationMs: Math.round(performance.now() - startMs) };
  }

  async #create(): Promise<EmbeddingContext> {
    const { model, threads } = this.#loaded;
    const { metadata } = model.fileInfo;
    const pooling = (metadata[this.#loaded.info.architecture] as { pooling_type?: unknown } | undefined)
      ?.pooling_type;
    const contextSize = this.#tokensMax;
    try {
      return await model.createEmbeddingContext({
        contextSize,
        batchSize: lastTokenPooling.includes(pooling) ? Math.min(contextSize, batchTokensMax) : contextSize,
        threads,
      });
    } catch (error) {
      this.#context = null;
      throw new SkeinError("engine_failed", "There is no memory for embeddings beside the answers.", {
        hint: "Use a smaller --context or --parallel.",
        cause: error,
      });
    }
  }

  get #isMatryoshka(): boolean {
    const { general } = this.#loaded.model.fileInfo.metadata;
    const { tags } = (general ?? {}) as { tags?: unknown };
    return Array.isArray(tags) && tags.includes(matryoshkaTag);
  }

  #fail(id: number, error: unknown): void {
    this.#send({ type: "failed", id, error: toWire(error) });
  }
}

/** llama.cpp's binding wants one more than an input has, and may add a token at each end. */
const reservedTokens = 3;

function cancelled(): SkeinError {
  return new SkeinError("cancelled", "The request was cancelled.");
}
