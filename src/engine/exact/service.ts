/** Inside the thread: requests in, tokens out. Owns contexts, sequences and the batch loop. */
import type { GenerateEvent, GenerateRequest, Prompt } from "../../protocol/generate.ts";
import { type FromHost, type ToHost, toWire } from "../hosted/messages.ts";
import { ConstrainedStarts } from "../constraint.ts";
import type { EmbedRequest } from "../../protocol/embed.ts";
import { SkeinError } from "../../util/errors.ts";
import { TokenMasks } from "../masks/token-masks.ts";
import { checkContext, checkLogitBias, checkTokenIds, tokenizePrompt } from "../prompt.ts";
import { ModelDrafts } from "../../exact/drafts/model-drafts.ts";
import { PromptLookup } from "../../exact/drafts/prompt-lookup.ts";
import type { DraftSource } from "../../exact/drafts/draft-source.ts";
import { BatchLoop, type BatchLoopEvents } from "./batch-loop.ts";
import { EmbedRun } from "./embed-run.ts";
import type { LoadedModel } from "./load.ts";
import { Sequence } from "./sequence.ts";
import { Speculation } from "./speculation.ts";

export class Service {
  readonly #loaded: LoadedModel;
  readonly #send: (message: FromHost) => void;
  readonly #loop: BatchLoop;
  readonly #starts: ConstrainedStarts;
  readonly #byId = new Map<number, Sequence>();
  readonly #embedding = new Map<number, EmbedRun>();

  constructor(loaded: LoadedModel, send: (message: FromHost) => void) {
    this.#loaded = loaded;
    this.#send = send;
    this.#starts = new ConstrainedStarts(
      new TokenMasks({ ...loaded.vocabulary, vocabularySize: loaded.prompt.vocabularySize }),
    );
    const listener: BatchLoopEvents = {
      onStep: (events) => {
        send({ type: "step", events: events.map(([{ id }, event]) => [id, event] as const) });
        for (const [sequence, event] of events) if (event.type === "end") this.#release(sequence);
      },
      onFailure: (error, sequences) => {
        for (const sequence of sequences) {
          if (sequence.reading !== null) {
            sequence.reading.fail(error);
            continue;
          }
          send({ type: "failed", id: sequence.id, error: toWire(error) });
          this.#release(sequence);
        }
      },
    };
    this.#loop = new BatchLoop(loaded.executor, listener, new Speculation(draftSources(loaded)));
  }

  receive(message: ToHost): void {
    switch (message.type) {
      case "generate":
        this.#guard(message.id, () => this.#generate(message.id, message.request));
        break;
      case "count":
        this.#guard(message.id, () => this.#countTokens(message.id, message.prompt));
        break;
      case "embed":
        this.#guard(message.id, () => this.#embed(message.id, message.request));
        break;
      case "read":
        this.#read(message.id, message.events);
        break;
      case "cancel": {
        this.#starts.cancel(message.id);
        const sequence = this.#byId.get(message.id);
        if (sequence !== undefined) this.#release(sequence);
        this.#cancelEmbedding(message.id);
        this.#send({ type: "cancelled", id: message.id });
      }
    }
  }

  #guard(id: number, act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#send({ type: "failed", id, error: toWire(error) });
    }
  }

  #generate(id: number, asked: GenerateRequest): void {
    const { prompt, facts } = this.#loaded;
    const contextTokens = facts.contextTokensMax;
    const request = { ...asked, emitted: this.#loaded.withTokenIds(asked.emitted) };
    const promptTokens = tokenizePrompt(prompt, request.prompt);
    checkLogitBias(request.sampling, prompt.vocabularySize);
    checkTokenIds(request.emitted.tokenIds, prompt.vocabularySize);
    checkContext(promptTokens.length, request.emitted.tokenIds.length, contextTokens);
    this.#starts.begin(id, request, {
      start: (mask) => {
        this.#guard(id, () => this.#start({ id, request, promptTokens, contextTokens, mask }));
      },
      failed: (error) => this.#send({ type: "failed", id, error: toWire(error) }),
    });
  }

  #start(given: ConstructorParameters<typeof Sequence>[0]): void {
    const { id, promptTokens, mask } = given;
    try {
      const sequence = new Sequence(given, this.#loaded.vocabulary);
      const replayed = sequence.answer.replayEmitted(mask);
      const isOver = replayed.at(-1)?.type === "end";
      if (isOver) mask?.close();
      else {
        this.#loop.add(sequence);
        this.#byId.set(id, sequence);
      }
      const events: GenerateEvent[] = [
        {
          type: "start",
          promptTokens: promptTokens.length,
          cachedTokens: sequence.cachedTokens,
          ...(sequence.hasRows ? { promptTokenIds: [...promptTokens] } : {}),
        },
        ...replayed,
      ];
      this.#send({ type: "step", events: events.map((event) => [id, event] as const) });
    } catch (error) {
      mask?.close();
      throw error;
    }
  }

  #countTokens(id: number, prompt: Prompt): void {
    const promptTokens = tokenizePrompt(this.#loaded.prompt, prompt).length;
    this.#send({ type: "counted", id, promptTokens });
  }

  #embed(id: number, request: EmbedRequest): void {
    const run = new EmbedRun({ loaded: this.#loaded, loop: this.#loop }, id, request, (result) => {
      this.#embedding.delete(id);
      this.#send(
        result instanceof SkeinError
          ? { type: "failed", id, error: toWire(result) }
          : { type: "embedded", id, embedded: result },
      );
    });
    this.#embedding.set(id, run);
    try {
      run.begin();
    } catch (error) {
      this.#embedding.delete(id);
      run.cancel();
      throw error;
    }
  }

  #cancelEmbedding(id: number): void {
    const run = this.#embedding.get(id);
    if (run === undefined) return;
    this.#embedding.delete(id);
    run.cancel();
    const error = new SkeinError("cancelled", "The request was cancelled.");
    this.#send({ type: "failed", id, error: toWire(error) });
  }

  #read(id: number, events: number): void {
    const sequence = this.#byId.get(id);
    if (sequence === undefined) return;
    sequence.unreadEvents -= events;
    this.#loop.wake();
  }

  #release(sequence: Sequence): void {
    if (!this.#byId.delete(sequence.id)) return;
    this.#loop.remove(sequence);
    sequence.mask?.close();
  }
}

/** What costs nothing is asked first. */
function draftSources({ draft, executor, guesses = true }: LoadedModel): DraftSource[] {
  if (!guesses) return [];
  const lookup = new PromptLookup();
  return draft === null ? [lookup] : [lookup, new ModelDrafts(draft, executor.shape.vocabularySize)];
}
