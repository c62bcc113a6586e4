/** Inside the thread: requests in, tokens out. Owns contexts, sequences and the batch loop. */
import type { GenerateEvent, GenerateRequest, Prompt } from "../../protocol/generate.ts";
import { type FromHost, type ToHost, toWire } from "../hosted/messages.ts";
import { checkContext, checkTokenIds, tokenizePrompt } from "../prompt.ts";
import { ModelDrafts } from "../../exact/drafts/model-drafts.ts";
import { PromptLookup } from "../../exact/drafts/prompt-lookup.ts";
import type { DraftSource } from "../../exact/drafts/draft-source.ts";
import { BatchLoop, type BatchLoopEvents } from "./batch-loop.ts";
import type { LoadedModel } from "./load.ts";
import { Sequence } from "./sequence.ts";
import { Speculation } from "./speculation.ts";

export class Service {
  readonly #loaded: LoadedModel;
  readonly #send: (message: FromHost) => void;
  readonly #loop: BatchLoop;
  readonly #byId = new Map<number, Sequence>();

  constructor(loaded: LoadedModel, send: (message: FromHost) => void) {
    this.#loaded = loaded;
    this.#send = send;
    const listener: BatchLoopEvents = {
      onStep: (events) => {
        send({ type: "step", events: events.map(([{ id }, event]) => [id, event] as const) });
        for (const [sequence, event] of events) if (event.type === "end") this.#release(sequence);
      },
      onFailure: (error, sequences) => {
        for (const sequence of sequences) {
          send({ type: "failed", id: sequence.id, error: toWire(error) });
          this.#byId.delete(sequence.id);
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
      case "read":
        this.#read(message.id, message.events);
        break;
      case "cancel": {
        const sequence = this.#byId.get(message.id);
        if (sequence !== undefined) this.#release(sequence);
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
    const { prompt, vocabulary, facts } = this.#loaded;
    const contextTokens = facts.contextTokensMax;
    const request = { ...asked, emitted: this.#loaded.withTokenIds(asked.emitted) };
    const promptTokens = tokenizePrompt(prompt, request.prompt);
    checkTokenIds(request.emitted.tokenIds, prompt.vocabularySize);
    checkContext(promptTokens.length, request.emitted.tokenIds.length, contextTokens);
    const sequence = new Sequence({ id, request, promptTokens, contextTokens }, vocabulary);
    const replayed = sequence.answer.replayEmitted();
    const isOver = replayed.at(-1)?.type === "end";
    if (!isOver) {
      this.#loop.add(sequence);
      this.#byId.set(id, sequence);
    }
    const events: GenerateEvent[] = [
      { type: "start", promptTokens: promptTokens.length, cachedTokens: sequence.cachedTokens },
      ...replayed,
    ];
    this.#send({ type: "step", events: events.map((event) => [id, event] as const) });
  }

  #countTokens(id: number, prompt: Prompt): void {
    const promptTokens = tokenizePrompt(this.#loaded.prompt, prompt).length;
    this.#send({ type: "counted", id, promptTokens });
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
  }
}

/** What costs nothing is asked first. */
function draftSources({ draft, executor, guesses = true }: LoadedModel): DraftSource[] {
  if (!guesses) return [];
  const lookup = new PromptLookup();
  return draft === null ? [lookup] : [lookup, new ModelDrafts(draft, executor.shape.vocabularySize)];
}
