/** The Responses API over the path of every request: answers that can be kept, gone on from, and left alone. */
import type { ChatMessage } from "../../protocol/generate.ts";
import { isErrorCode, SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Asker } from "../http/app.ts";
import { type CompleteDeps, eventsOf, startAnswer } from "../answers/complete.ts";
import type { KeptRecords } from "../kept/kept-records.ts";
import type { CompletionRequest } from "../requests/parse-request.ts";
import { eachJson, putJson } from "../kept/records.ts";
import { sseResponse } from "../http/sse.ts";
import { type ResponseEvent, responseEvents } from "./events.ts";
import { answerMessages, type InputItem, messagesOf } from "./input.ts";
import { failedObject, type ResponseObject, responseObject } from "./object.ts";
import {
  chatRequestOf,
  conversationOf,
  inResponseWords,
  parseResponseRequest,
  type ResponseRequest,
} from "./parse.ts";

/** Responses that are answered in the background at the same time. */
const backgroundMax = 1_000;

/** A response that is kept. */
export interface StoredResponse {
  readonly response: ResponseObject;
  readonly inputItems: readonly InputItem[];
  /** The conversation up to and with its answer; instructions are not part of it. */
  readonly messages: readonly ChatMessage[];
  readonly createdMs: number;
  /** To be answered anew, when a gateway ends before it did. */
  readonly body: Record<string, unknown>;
}

interface Prepared {
  readonly asker: Asker;
  readonly request: ResponseRequest;
  readonly chat: CompletionRequest;
  readonly conversation: readonly ChatMessage[];
  readonly response: ResponseObject;
  readonly createdMs: number;
}

export class Responses {
  readonly #deps: CompleteDeps;
  readonly #kept: KeptRecords;
  readonly #running = new Map<string, AbortController>();
  #isClosed = false;

  constructor(deps: CompleteDeps, kept: KeptRecords) {
    this.#deps = deps;
    this.#kept = kept;
  }

  /** POST /v1/responses */
  async create(http: Request, body: Record<string, unknown>, asker: Asker): Promise<Response> {
    // 1. Check everything that can be checked without a provider.
    const prepared = await this.#prepare(body, asker, `resp_${asker.requestId}`, this.#deps.clock.nowMs());
    const { request } = prepared;
    if (request.isBackground) return this.#createInBackground(prepared);
    // 2. Answer; nothing is sent before the first token.
    const abort = new AbortController();
    const onLeave = (): void => abort.abort(new SkeinError("cancelled", "The client went away."));
    if (http.signal.aborted) onLeave();
    http.signal.addEventListener("abort", onLeave, { once: true });
    const events = await this.#begin(prepared, abort);
    // 3. As one object, or as it comes.
    const named = { "x-request-id": `req_${asker.requestId}` };
    if (request.isStream) {
      return sseResponse(this.#deps.clock, sseOf(events), abort, named);
    }
    const ended = await lastOf(events);
    if (ended.error === null) return Response.json(ended, { headers: named });
    const { code, message } = ended.error;
    throw new SkeinError(isErrorCode(code) ? code : "provider_failed", message);
  }

  /** How many tokens its input has: what a provider has to be asked for is left to the caller. */
  async inputOf(body: Record<string, unknown>, asker: Asker): Promise<CompletionRequest> {
    return (await this.#prepare(body, asker, "resp_", 0)).chat;
  }

  /** @throws SkeinError `not_found` */
  async get(owner: string, id: string): Promise<StoredResponse> {
    return (await this.#kept.get(owner, id)) as StoredResponse;
  }

  async delete(owner: string, id: string): Promise<void> {
    await this.get(owner, id);
    this.#running.get(id)?.abort(new SkeinError("cancelled", "The response was deleted."));
    await this.#kept.delete(owner, id);
  }

  /** @throws SkeinError `invalid_request` when it is not answered in the background */
  async cancel(owner: string, id: string): Promise<ResponseObject> {
    const stored = await this.get(owner, id);
    if (!stored.response.background) {
      throw new SkeinError("invalid_request", "Only responses in the background can be cancelled.", {
        param: "response_id",
        hint: "Others end when their client hangs up.",
      });
    }
    if (stored.response.status !== "queued" && stored.response.status !== "in_progress")
      return stored.response;
    const cancelled = { ...stored, response: { ...stored.response, status: "cancelled" as const } };
    this.#running.get(id)?.abort(new SkeinError("cancelled", "The response was cancelled."));
    this.#running.delete(id);
    await this.#kept.put(owner, id, stored.createdMs, cancelled, [{ type: "delete", key: activeKey(id) }]);
    return cancelled.response;
  }

  /** Goes on with what a gateway before left in the background. Never rejects. */
  async resume(): Promise<void> {
    const { store, log } = this.#deps;
    try {
      for await (const { key, value } of eachJson(store, { prefix: activeKey("") })) {
        const id = key.slice(activeKey("").length);
        const { owner } = value as { owner: string };
        if (this.#isClosed) return;
        if (this.#running.has(id)) continue;
        try {
          const { body, createdMs } = await this.get(owner, id);
          this.#run(await this.#prepare(body, { owner, requestId: id.slice("resp_".length) }, id, createdMs));
        } catch {
          await store.commit({ changes: [{ type: "delete", key }] });
        }
      }
    } catch (error) {
      if (!this.#isClosed)
        log.error({ reason: toSkeinError(error).message }, "responses could not be resumed");
    }
  }

  close(): void {
    this.#isClosed = true;
    for (const abort of this.#running.values())
      abort.abort(new SkeinError("cancelled", "The gateway stops."));
  }

  async #prepare(
    body: Record<string, unknown>,
    asker: Asker,
    id: string,
    createdMs: number,
  ): Promise<Prepared> {
    const request = parseResponseRequest(body);
    const before = await this.#conversationBefore(asker.owner, request);
    const conversation = [...before, ...messagesOf(request.inputItems)];
    const given = chatRequestOf(request, conversationOf(request, before), this.#deps.random);
    const chat = { ...given, model: this.#deps.access.resolve(asker.owner, given.model) };
    const response = responseObject(id, createdMs, request, chat.model);
    return { asker, request, chat, conversation, response, createdMs };
  }

  async #conversationBefore(owner: string, { previousId }: ResponseRequest): Promise<readonly ChatMessage[]> {
    if (previousId === null) return [];
    const { response, messages } = (await this.#kept.get(
      owner,
      previousId,
      "previous_response_id",
    )) as StoredResponse;
    if (response.status === "completed" || response.status === "incomplete") return messages;
    throw new SkeinError("invalid_request", `The response before is ${response.status}.`, {
      param: "previous_response_id",
      hint: "Wait for its end.",
    });
  }

  /** @throws SkeinError what fails before the first token */
  async #begin(
    prepared: Prepared,
    abort: AbortController,
  ): Promise<AsyncGenerator<ResponseEvent, ResponseObject>> {
    const { asker, chat, response } = prepared;
    const answer = startAnswer(this.#deps, chat, asker, abort);
    const events = eventsOf(answer, abort);
    const first = await events.next().catch((error: unknown) => {
      throw inResponseWords(toSkeinError(error));
    });
    const { clock } = this.#deps;
    const all = responseEvents(response, answer.frame, { first, rest: events }, () => clock.nowMs());
    return this.#thenKept(prepared, all);
  }

  /** Keeps a response before its last event is told. */
  async *#thenKept(
    prepared: Prepared,
    events: AsyncGenerator<ResponseEvent, ResponseObject>,
  ): AsyncGenerator<ResponseEvent, ResponseObject> {
    try {
      let step = await events.next();
      while (step.done !== true) {
        const { response } = step.value as { response?: ResponseObject };
        if (response !== undefined && isOver(response)) await this.#keep(prepared, response);
        yield step.value;
        step = await events.next();
      }
      return step.value;
    } finally {
      await events.return(prepared.response);
    }
  }

  async #keep(
    { asker, request, conversation, createdMs }: Prepared,
    response: ResponseObject,
  ): Promise<void> {
    // Cancelled or deleted: what is kept says so already.
    if (request.isBackground && this.#running.get(response.id)?.signal.aborted !== false) return;
    const isFailedInSight = response.status === "failed" && !request.isBackground && !request.isStream;
    if (!request.isStored || isFailedInSight || this.#isClosed) return;
    const messages: ChatMessage[] = [...conversation, ...answerMessages(response.output)];
    const { inputItems, body } = request;
    const stored: StoredResponse = { response, inputItems, messages, createdMs, body };
    const also = request.isBackground ? [{ type: "delete" as const, key: activeKey(response.id) }] : [];
    try {
      await this.#kept.put(asker.owner, response.id, createdMs, stored, also);
    } catch (error) {
      this.#deps.log.warn({ reason: toSkeinError(error).message }, "a response could not be kept");
    }
  }

  async #createInBackground(prepared: Prepared): Promise<Response> {
    const { asker, request, conversation, response, createdMs } = prepared;
    if (request.isStream) {
      throw new SkeinError("unsupported_parameter", "'stream' with 'background' is not supported yet.", {
        param: "stream",
        hint: "Ask for the response until its status says that it has ended.",
      });
    }
    if (this.#running.size >= backgroundMax) {
      throw new SkeinError(
        "overloaded",
        `${backgroundMax} responses are answered in the background already.`,
      );
    }
    const { inputItems, body } = request;
    const stored: StoredResponse = { response, inputItems, messages: conversation, createdMs, body };
    const active = putJson(activeKey(response.id), { owner: asker.owner });
    if (!(await this.#kept.put(asker.owner, response.id, createdMs, stored, [active]))) {
      throw new SkeinError("request_too_large", "The conversation is too large to be kept.", {
        param: "input",
      });
    }
    this.#run(prepared);
    return Response.json(response, { headers: { "x-request-id": `req_${asker.requestId}` } });
  }

  #run(prepared: Prepared): void {
    const { id } = prepared.response;
    const abort = new AbortController();
    this.#running.set(id, abort);
    const work = async (): Promise<void> => {
      try {
        await lastOf(await this.#begin(prepared, abort));
      } catch (error) {
        if (!abort.signal.aborted)
          await this.#keep(prepared, failedObject(prepared.response, toSkeinError(error)));
      } finally {
        if (this.#running.get(id) === abort) this.#running.delete(id);
      }
    };
    void work();
  }
}

function isOver({ status }: ResponseObject): boolean {
  return status !== "queued" && status !== "in_progress";
}

function activeKey(id: string): string {
  return `response-active/${id}`;
}

async function lastOf(events: AsyncGenerator<ResponseEvent, ResponseObject>): Promise<ResponseObject> {
  for (;;) {
    const { done, value } = await events.next();
    if (done === true) return value;
  }
}

async function* sseOf(events: AsyncGenerator<ResponseEvent, ResponseObject>): AsyncGenerator<string, void> {
  for await (const event of events) yield `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
}
