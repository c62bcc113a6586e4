/** Inside the child process: requests in, tokens out. Owns slots, sequences and the batch loop. */
import type { EmbedRequest } from "../../protocol/embed.ts";
import type { ScoreRequest } from "../port.ts";
import type { Emitted, GenerateEvent, GenerateRequest, Prompt } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import { commonPrefix } from "../common-prefix.ts";
import { type FromHost, toWire } from "../hosted/messages.ts";
import { checkContext, checkLogitBias, checkTokenIds, tokenizePrompt } from "../prompt.ts";
import { ConstrainedStarts } from "../constraint.ts";
import { type TokenMask, TokenMasks } from "../masks/token-masks.ts";
import { BatchLoop } from "./batch-loop.ts";
import type { NativeSampler } from "./binding.ts";
import { Embedder } from "./embedder.ts";
import type { LoadedModel } from "./load.ts";
import { ScoreQueue } from "./score-queue.ts";
import { Sequence } from "./sequence.ts";
import { SlotTable } from "./slots.ts";

interface Waiting {
  readonly mask: TokenMask | null;
  readonly id: number;
  readonly request: GenerateRequest;
  readonly promptTokens: number[];
  readonly tokens: number[];
}

/** Waiting for another request that is just reading the same beginning pays from this many tokens on. */
const sharedPrefixTokensMin = 64;

export class Service {
  readonly #loaded: LoadedModel;
  readonly #send: (message: FromHost) => void;
  readonly #slots: SlotTable;
  readonly #loop: BatchLoop;
  readonly #starts: ConstrainedStarts;
  readonly #scores: ScoreQueue;
  readonly #embedder: Embedder;
  readonly #byId = new Map<number, Sequence>();
  #waiting: Waiting[] = [];
  /** Cancelled requests: the running step may still compute for them. */
  #cancelled: number[] = [];
  /** Samplers of ended sequences: a running step may still use them. */
  #retired: NativeSampler[] = [];

  constructor(loaded: LoadedModel, parallel: number, send: (message: FromHost) => void) {
    this.#loaded = loaded;
    this.#send = send;
    const native = loaded.model._model;
    this.#starts = new ConstrainedStarts(
      new TokenMasks({
        pieces: loaded.pieces,
        isEnd: (tokenId) => native.isEogToken(tokenId),
        vocabularySize: loaded.info.vocabularySize,
      }),
    );
    this.#slots = new SlotTable(loaded.context, parallel, loaded.contextTokens);
    this.#loop = new BatchLoop(loaded.context, this.#slots, {
      onPause: async () => {
        await this.#admitWaiting();
        await this.#scores.step();
      },
      onStep: (events) => {
        send({ type: "step", events: events.map(([{ id }, event]) => [id, event] as const) });
        for (const [sequence, event] of events) if (event.type === "end") this.#release(sequence);
      },
      onFailure: (error, sequences) => {
        for (const sequence of sequences) {
          send({ type: "failed", id: sequence.id, error: toWire(error) });
          this.#release(sequence);
        }
        this.#scores.failRunning(error);
        this.#slots.clear();
      },
      onLost: (error, sequence) => {
        send({ type: "failed", id: sequence.id, error: toWire(error) });
        this.#release(sequence);
      },
    });
    this.#embedder = new Embedder(loaded, send);
    this.#scores = new ScoreQueue(loaded, this.#slots, { send, wake: () => this.#loop.wake() });
  }

  generate(id: number, asked: GenerateRequest): void {
    this.#guard(id, () => {
      const { info, contextTokens } = this.#loaded;
      const request = { ...asked, emitted: this.#withTokenIds(asked.emitted) };
      const promptTokens = this.#tokenize(request.prompt);
      checkLogitBias(request.sampling, info.vocabularySize);
      checkTokenIds(request.emitted.tokenIds, info.vocabularySize);
      const tokens = [...promptTokens, ...request.emitted.tokenIds];
      checkContext(promptTokens.length, request.emitted.tokenIds.length, contextTokens);
      this.#starts.begin(id, request, {
        start: (mask) => {
          this.#waiting.push({ id, request, promptTokens, tokens, mask });
          this.#loop.wake();
        },
        failed: (error) => this.#send({ type: "failed", id, error: toWire(error) }),
      });
    });
  }

  score(id: number, score: ScoreRequest): void {
    this.#guard(id, () => {
      const promptTokens = this.#tokenize(score.request.prompt);
      checkTokenIds(score.tokenIds, this.#loaded.info.vocabularySize);
      checkContext(promptTokens.length, score.tokenIds.length, this.#loaded.contextTokens);
      const fromStart = { ...score.request, emitted: { tokenIds: [], text: "" } };
      this.#starts.begin(id, fromStart, {
        start: (mask) => this.#scores.add({ id, score, promptTokens, mask }),
        failed: (error) => this.#send({ type: "failed", id, error: toWire(error) }),
      });
    });
  }

  embed(id: number, request: EmbedRequest): void {
    this.#guard(id, () => {
      const inputs = request.inputs.map((input) => this.#tokenize(input));
      this.#embedder.add({ id, request, inputs });
    });
  }

  count(id: number, prompt: Prompt): void {
    this.#guard(id, () => {
      this.#send({ type: "counted", id, promptTokens: this.#tokenize(prompt).length });
    });
  }

  cancel(id: number): void {
    this.#scores.cancel(id);
    this.#embedder.cancel(id);
    if (this.#starts.cancel(id)) {
      // Whoever wants an answer scored is owed a word.
      const error = new SkeinError("cancelled", "The request was cancelled.");
      this.#send({ type: "failed", id, error: toWire(error) });
    }
    for (const { mask } of this.#waiting.filter((waiting) => waiting.id === id)) mask?.close();
    this.#waiting = this.#waiting.filter((waiting) => waiting.id !== id);
    const sequence = this.#byId.get(id);
    if (sequence !== undefined) this.#release(sequence);
    this.#cancelled.push(id);
    this.#loop.wake();
  }

  read(id: number, events: number): void {
    const sequence = this.#byId.get(id);
    if (sequence === undefined) return;
    sequence.unreadEvents -= events;
    this.#loop.wake();
  }

  #guard(id: number, act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#send({ type: "failed", id, error: toWire(error) });
    }
  }

  #tokenize(prompt: Prompt): number[] {
    const { tokenizer, info, infill } = this.#loaded;
    const { chatTemplate, vocabularySize } = info;
    return tokenizePrompt({ tokenizer, chatTemplate, vocabularySize, infill }, prompt);
  }

  /** An engine without token ids may have produced the beginning: then its text is continued. */
  #withTokenIds({ tokenIds, text }: Emitted): Emitted {
    if (tokenIds.length > 0 || text === "") return { tokenIds, text };
    return { tokenIds: this.#loaded.model.tokenize(text, false, "trimLeadingSpace"), text };
  }

  async #admitWaiting(): Promise<void> {
    for (const sampler of this.#retired.splice(0)) sampler.dispose();
    for (const id of this.#cancelled.splice(0)) this.#send({ type: "cancelled", id });
    for (const waiting of this.#waiting) {
      if (this.#isBeingRead(waiting.tokens)) continue;
      const slot = await this.#slots.take(waiting.tokens);
      if (slot === null) return;
      // A cancellation may have come while cells were copied.
      if (!this.#waiting.includes(waiting)) {
        slot.busy = false;
        continue;
      }
      this.#waiting = this.#waiting.filter((other) => other !== waiting);
      const { llama, model, pieces, contextTokens, info } = this.#loaded;
      const native = model._model;
      const newSampler = (): NativeSampler => new llama._bindings.AddonSampler(native);
      const given = { ...waiting, slot, contextTokens, vocabularySize: info.vocabularySize };
      this.#start(new Sequence(given, { model: native, pieces, newSampler }));
    }
  }

  /** Whether another request is just prefilling a long beginning that this one shares. */
  #isBeingRead(tokens: readonly number[]): boolean {
    const have = Math.max(...this.#slots.slots.map(({ cells }) => commonPrefix(cells, tokens)));
    return [...this.#loop.sequences].some(
      (sequence) =>
        sequence.pending > 1 &&
        !sequence.paused &&
        commonPrefix(sequence.tokens, tokens) >= have + sharedPrefixTokensMin,
    );
  }

  #start(sequence: Sequence): void {
    const { id, promptLength, cachedTokens, tokens, request } = sequence;
    this.#byId.set(id, sequence);
    const events: GenerateEvent[] = [
      {
        type: "start",
        promptTokens: promptLength,
        cachedTokens,
        ...(request.terms !== undefined ? { promptTokenIds: tokens.slice(0, promptLength) } : {}),
      },
      ...sequence.answer.replayEmitted(sequence.mask),
    ];
    this.#send({ type: "step", events: events.map((event) => [id, event] as const) });
    if (events.at(-1)?.type === "end") this.#release(sequence);
    else this.#loop.add(sequence);
  }

  #release(sequence: Sequence): void {
    if (!this.#byId.delete(sequence.id)) return;
    this.#loop.remove(sequence);
    this.#retired.push(...sequence.samplers);
    sequence.mask?.close();
    sequence.slot.busy = false;
    this.#loop.wake();
  }
}
