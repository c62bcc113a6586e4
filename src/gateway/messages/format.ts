/** Anthropic's objects: messages, the events of their streams, errors. */
import { type SkeinError, toSkeinError } from "../../util/errors.ts";
import { type AnswerEvent, billOf } from "../answers/answer-request.ts";
import type { ChoiceEnd } from "../answers/answer-choice.ts";
import type { Events } from "../answers/complete.ts";
import { ChoiceReader, type Said, saidIn } from "../answers/said.ts";
import { Blocks, blocksOf } from "./blocks.ts";
import { type Frame, servedView, usageView } from "../answers/format.ts";

/** What all but its content is the same from the beginning on. */
function emptyMessage({ requestId, request }: Frame) {
  return {
    id: `msg_${requestId}`,
    type: "message" as const,
    role: "assistant" as const,
    model: request.model,
    content: [] as ReturnType<typeof blocksOf>,
    stop_reason: null as string | null,
    stop_sequence: null,
    usage: { input_tokens: 0, output_tokens: 0 },
  };
}

/** Which stop sequence ended an answer, or whether one did, no provider says: it is told as the end of a turn. */
function stopReason(finishReason: Said["finishReason"]): "end_turn" | "max_tokens" | "tool_use" {
  if (finishReason === "tool_calls") return "tool_use";
  return finishReason === "length" ? "max_tokens" : "end_turn";
}

/** The three kinds of input tokens add up to all of them. */
function messageUsage(frame: Frame, end: ChoiceEnd) {
  const { promptTokens, cachedTokens, outputTokens } = billOf(frame.request, [end]);
  return {
    input_tokens: promptTokens - cachedTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cachedTokens,
    output_tokens: outputTokens,
    fee: usageView(frame, billOf(frame.request, [end])).fee,
  };
}

export function messageObject(frame: Frame, end: ChoiceEnd) {
  return {
    ...emptyMessage(frame),
    content: blocksOf(frame, end),
    stop_reason: stopReason(saidIn(frame.request, end).finishReason),
    usage: messageUsage(frame, end),
    skein: servedView(frame, [end]),
  };
}

/** The events of a message, as an event stream. */
export async function* messageEvents(
  frame: Frame,
  first: IteratorResult<AnswerEvent, void>,
  rest: Events,
): AsyncGenerator<string, void> {
  const event = (type: string, fields: object = {}): string =>
    `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`;
  yield event("message_start", { message: emptyMessage(frame) });
  const reader = new ChoiceReader(frame.request);
  const blocks = new Blocks(frame.requestId);
  try {
    for (let step = first; step.done !== true; step = await rest.next()) {
      const { value } = step;
      if (value.type === "text") {
        for (const { deltas } of reader.push(value.text, value.offer)) {
          for (const delta of deltas) for (const told of blocks.take(delta)) yield event(...told);
        }
        continue;
      }
      const { deltas, finishReason } = reader.end(value.end);
      for (const each of deltas) for (const told of blocks.take(each)) yield event(...told);
      for (const told of blocks.end()) yield event(...told);
      const delta = { stop_reason: stopReason(finishReason), stop_sequence: null };
      const usage = messageUsage(frame, value.end);
      yield event("message_delta", { delta, usage, skein: servedView(frame, [value.end]) });
    }
    yield event("message_stop");
  } catch (error) {
    // No message_stop: a cut answer must not look like a whole one.
    yield event("error", messageError(toSkeinError(error), frame.requestId));
  } finally {
    await rest.return();
  }
}

const errorTypes: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  405: "invalid_request_error",
  413: "request_too_large",
  415: "invalid_request_error",
  429: "rate_limit_error",
  503: "overloaded_error",
  504: "timeout_error",
};

/** The same error as everywhere, in Anthropic's shape; parameter and code come beside. */
export function messageError(error: SkeinError, requestId: string) {
  const { status, text: message, param, code } = error;
  return {
    type: "error" as const,
    error: { type: errorTypes[status] ?? "api_error", message, param: param ?? null, code },
    request_id: `req_${requestId}`,
  };
}
