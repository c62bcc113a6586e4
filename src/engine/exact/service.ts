/** Inside the thread: requests in, tokens out. Owns slots, sequences and the batch loop. */
import type { GenerateEvent, GenerateRequest, Prompt } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import { type FromHost, type ToHost, toWire } from "../hosted/messages.ts";
import { checkContext, checkLogitBias, checkTokenIds, tokenizePrompt } from "../prompt.ts";
import { BatchLoop } from "./batch-loop.ts";
import type { LoadedModel } from "./load.ts";
import { Sequence } from "./sequence.ts";
import { forgetFrom, SlotTable } from "./slots.ts";

export class Service {
  readonly #loaded: LoadedModel;
  readonly #send: (message: FromHost) => void;
  readonly #slots: SlotTable;
  readonly #loop: BatchLoop;
  readonly #byId = new Map<number, Sequence>();

  /** @throws SkeinError `overloaded` when there is no memory for so many requests */
  constructor(loaded: LoadedModel, send: (message: FromHost) => void) {
    this.#loaded = loaded;
    this.#send = send;
    this.#slots = new SlotTable(loaded.executor, loaded.facts.parallelMax);
    this.#loop = new BatchLoop(loaded.executor, {
      onStep: (events) => {
        send({ type: "step", events: events.map(([{ id }, event]) => [id, event] as const) });
        for (const [sequence, event] of events) if (event.type === "end") this.#release(sequence);
      },
      onFailure: (error, sequences) => {
        for (const sequence of sequences) {
          send({ type: "failed", id: sequence.id, error: toWire(error) });
          forgetFrom(sequence.slot, 0);
          this.#release(sequence);
        }
      },
    });
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
    const { prompt, vocabulary, facts } = this.#loaded;
    const contextTokens = facts.contextTokensMax;
    const request = { ...asked, emitted: this.#loaded.withTokenIds(asked.emitted) };
    const promptTokens = tokenizePrompt(prompt, request.prompt);
    checkLogitBias(request.sampling, prompt.vocabularySize);
    checkTokenIds(request.emitted.tokenIds, prompt.vocabularySize);
    checkContext(promptTokens.length, request.emitted.tokenIds.length, contextTokens);
    const hasRows = request.terms !== undefined;
    const slot = this.#slots.take([...promptTokens, ...request.emitted.tokenIds], {
      hasRows,
      sharedMax: request.leavesAt ?? Number.POSITIVE_INFINITY,
    });
    if (slot === null) throw new SkeinError("overloaded", "The engine has no free slot.");
    const sequence = new Sequence({ id, request, promptTokens, slot, contextTokens }, vocabulary);
    this.#byId.set(id, sequence);
    const events: GenerateEvent[] = [
      {
        type: "start",
        promptTokens: promptTokens.length,
        cachedTokens: sequence.cachedTokens,
        ...(hasRows ? { promptTokenIds: promptTokens } : {}),
      },
      ...sequence.answer.replayEmitted(),
    ];
    this.#send({ type: "step", events: events.map((event) => [id, event] as const) });
    if (events.at(-1)?.type === "end") this.#release(sequence);
    else this.#loop.add(sequence);
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
    sequence.slot.busy = false;
  }
}
