/**
 * Teacher-forced scoring: the claimed answer is read like a prompt, and every token compared with the draw that the
 * request's sampling makes from this machine's logits. Runs between the steps of the batch loop, a chunk at a time, in a
 * slot of its own and always from an empty cache: what others asked before must not change what is found.
 */
import type { TokenMask } from "../masks/token-masks.ts";
import { AnswerWriter } from "../answer-writer.ts";
import type { AnswerScores, ScoreRequest } from "../port.ts";
import { writeAgain, type WrittenAnswer } from "../written-answer.ts";
import { stepLimits } from "./batch-plan.ts";
import type { NativeModel } from "./binding.ts";
import type { LoadedModel } from "./load.ts";
import { type Allowed, marginOf, uniformOf } from "./draw.ts";
import { drawSeed, Sequence } from "./sequence.ts";
import type { Slot } from "./slots.ts";

/** Up to this many tokens in a step, kernels round as they do token by token (see `emittedChunkTokens`). */
const chunkTokensDefault = 63;

export interface ScoreTask {
  readonly id: number;
  readonly score: ScoreRequest;
  readonly promptTokens: number[];
  /** At the answer's beginning; null: any token may come. Belongs to whoever runs the task. */
  readonly mask: TokenMask | null;
}

export class ScoreRun {
  readonly id: number;
  readonly slot: Slot;
  readonly #loaded: LoadedModel;
  readonly #request: ScoreRequest;
  readonly #sequence: Sequence;
  /** Prompt and answer; what was claimed to follow each is scored. */
  readonly #tokens: readonly number[];
  readonly #margins: number[] = [];
  /** A token was claimed that the request's form does not allow: whatever follows it is no answer. */
  #isOutOfForm = false;
  readonly #logProbabilities: number[] = [];
  readonly #written: WrittenAnswer;

  /** `slot` is empty and belongs to this run until `free`. */
  constructor({ id, score: request, promptTokens, mask }: ScoreTask, slot: Slot, loaded: LoadedModel) {
    this.id = id;
    this.slot = slot;
    this.#loaded = loaded;
    this.#request = request;
    this.#tokens = [...promptTokens, ...request.tokenIds];
    const { llama, model, pieces, contextTokens, info } = loaded;
    const asked = { ...request.request, emitted: { tokenIds: [], text: "" }, logprobs: null };
    const writer = new AnswerWriter(asked, { promptTokens: promptTokens.length, contextTokens, pieces });
    this.#written = writeAgain(writer, request.tokenIds, request.isEnded);
    this.#sequence = new Sequence(
      {
        id,
        request: asked,
        promptTokens,
        slot,
        contextTokens,
        vocabularySize: info.vocabularySize,
        mask,
      },
      { model: model._model, pieces, newSampler: () => new llama._bindings.AddonSampler(model._model) },
    );
  }

  /** Reads the next chunk. Returns the scores when all is read. */
  async step(): Promise<AnswerScores | null> {
    const { context } = this.#loaded;
    const { promptLength } = this.#sequence;
    const start = this.slot.cells.length;
    // 1. Unless asked otherwise: the prompt in steps that hold nobody up, then the answer in chunks.
    const isPrompt = start < promptLength;
    const ownChoice = isPrompt
      ? Math.min(stepLimits.sharedPrefillTokensMax, promptLength - start)
      : chunkTokensDefault;
    const count = Math.min(this.#request.chunkTokens ?? ownChoice, stepLimits.prefillTokensMax);
    const chunk = Uint32Array.from(this.#tokens.slice(start, start + count));
    const scored = chunk
      .map((_, i) => i)
      .filter((i) => start + i >= promptLength - 1 && this.#isClaimed(start + i));
    context.initBatch(chunk.length);
    const indexes = context.addToBatch(this.slot.id, start, chunk, scored);
    await context.decodeBatch();
    this.slot.cells.push(...chunk);
    // 2. In order: penalties depend on what came before.
    for (const index of indexes) await this.#score(index);
    return this.slot.cells.length < this.#tokens.length ? null : this.#result();
  }

  free(): void {
    this.#sequence.sampler.dispose();
    this.#sequence.mask?.close();
    this.#loaded.context.disposeSequence(this.slot.id);
    this.slot.cells = [];
    this.slot.busy = false;
  }

  #result(): AnswerScores {
    const { text } = this.#written;
    return { margins: this.#margins, logProbabilities: this.#logProbabilities, text };
  }

  /** Whether something was claimed to follow this position: a token, or the end. */
  #isClaimed(position: number): boolean {
    return position < this.#tokens.length - 1 || this.#written.byModel;
  }

  async #score(batchIndex: number): Promise<void> {
    const sequence = this.#sequence;
    const { temperature, seed, topK, topP } = sequence.request.sampling;
    const claimed = this.#request.tokenIds[this.#margins.length] ?? null;
    if (this.#isOutOfForm || sequence.isComplete || (claimed !== null && !sequence.mayFollow(claimed))) {
      return this.#scoreForm(claimed);
    }
    sequence.prepareDraw();
    const revealed = await this.#loaded.context.sampleToken(batchIndex, sequence.sampler, false, false, true);
    // What is drawn from a cumulative distribution has an order: by logit where the sampler has sorted, else by id.
    const isSorted = topK > 0 || topP < 1;
    const allowed = pairsOf(revealed[3]);
    if (!isSorted) allowed.sort((a, b) => a.id - b.id);
    const uniform = temperature > 0 ? uniformOf(drawSeed(seed, sequence.answer.outputTokens)) : null;
    const candidates = claimed === null ? this.#ends(allowed) : [claimed];
    const margins = candidates.map((id) => marginOf(allowed, id, uniform, isSorted));
    const isDrawn = candidates.includes(revealed[0]);
    this.#margins.push(isDrawn ? 0 : (temperature || 1) * Math.min(Number.POSITIVE_INFINITY, ...margins));
    this.#logProbabilities.push(logProbability(allowed, candidates));
    if (claimed !== null) this.#accept(claimed);
  }

  /** Where the form that was asked for decides alone: nothing is drawn. */
  #scoreForm(claimed: number | null): void {
    this.#isOutOfForm ||= claimed !== null;
    this.#margins.push(this.#isOutOfForm ? Number.POSITIVE_INFINITY : 0);
    this.#logProbabilities.push(this.#isOutOfForm ? Number.NEGATIVE_INFINITY : 0);
  }

  #accept(tokenId: number): void {
    if (!this.#native.isEogToken(tokenId)) {
      this.#sequence.accept({ tokenId, logprob: null });
      return;
    }
    // Nobody delivers the token that ends an answer. Whoever claims it is read on as if it were any other.
    this.#sequence.tokens.push(tokenId);
    this.#sequence.answer.accept(tokenId, null, null);
  }

  #ends(allowed: readonly Allowed[]): number[] {
    return allowed.filter(({ id }) => this.#native.isEogToken(id)).map(({ id }) => id);
  }

  get #native(): NativeModel {
    return this.#loaded.model._model;
  }
}

function pairsOf(flat: readonly number[]): Allowed[] {
  const pairs = Array.from({ length: flat.length / 2 }, (_, i) => ({
    id: flat[2 * i]!,
    logit: flat[2 * i + 1]!,
  }));
  // What a bias of −∞ forbids is not there.
  return pairs.filter(({ logit }) => logit > Number.NEGATIVE_INFINITY);
}

/** Of any of `ids`, among the allowed tokens. */
function logProbability(allowed: readonly Allowed[], ids: readonly number[]): number {
  const best = allowed.reduce((max, { logit }) => Math.max(max, logit), Number.NEGATIVE_INFINITY);
  let all = 0;
  let some = 0;
  for (const { id, logit } of allowed) {
    const weight = Math.exp(logit - best);
    all += weight;
    if (ids.includes(id)) some += weight;
  }
  return Math.log(some / all);
}
