/** OpenAI's response object, and what becomes of it while it is answered. */
import { billOf } from "../answers/answer-request.ts";
import type { ChoiceEnd } from "../answers/answer-choice.ts";
import { type Frame, servedView, usageView } from "../answers/format.ts";
import type { SkeinError } from "../../util/errors.ts";
import { type OutputItem, outputOf } from "./output.ts";
import type { ResponseRequest } from "./parse.ts";

export type ResponseStatus = "queued" | "in_progress" | "completed" | "incomplete" | "failed" | "cancelled";

/** A new one, without an answer. */
export function responseObject(id: string, createdMs: number, request: ResponseRequest, model: string) {
  const { body } = request;
  return {
    id,
    object: "response" as const,
    created_at: Math.floor(createdMs / 1000),
    status: (request.isBackground ? "queued" : "in_progress") as ResponseStatus,
    background: request.isBackground,
    completed_at: null as number | null,
    error: null as { code: string; message: string } | null,
    incomplete_details: null as { reason: "max_output_tokens" } | null,
    instructions: request.instructions,
    max_output_tokens: (body["max_output_tokens"] ?? null) as number | null,
    max_tool_calls: null,
    model,
    output: [] as OutputItem[],
    parallel_tool_calls: (body["parallel_tool_calls"] ?? true) as boolean,
    previous_response_id: request.previousId,
    reasoning: { effort: request.effort, summary: null },
    service_tier: "default",
    store: request.isStored,
    temperature: (body["temperature"] ?? 1) as number,
    text: request.text ?? { format: { type: "text" } },
    tool_choice: body["tool_choice"] ?? "auto",
    tools: body["tools"] ?? [],
    top_logprobs: 0,
    top_p: (body["top_p"] ?? 1) as number,
    truncation: "disabled",
    usage: null as object | null,
    user: (body["user"] ?? null) as string | null,
    metadata: request.metadata ?? {},
  };
}

export type ResponseObject = ReturnType<typeof responseObject>;

/** Once its answer is whole. */
export function answeredObject(response: ResponseObject, frame: Frame, end: ChoiceEnd, nowMs: number) {
  const isWhole = end.finishReason !== "length";
  const usage = usageView(frame, billOf(frame.request, [end]));
  return {
    ...response,
    status: isWhole ? ("completed" as const) : ("incomplete" as const),
    completed_at: isWhole ? Math.floor(nowMs / 1000) : null,
    incomplete_details: isWhole ? null : { reason: "max_output_tokens" as const },
    output: [...outputOf(frame, end)],
    usage: {
      input_tokens: usage.prompt_tokens,
      input_tokens_details: usage.prompt_tokens_details,
      output_tokens: usage.completion_tokens,
      output_tokens_details: usage.completion_tokens_details,
      total_tokens: usage.total_tokens,
      fee: usage.fee,
    },
    skein: servedView(frame, [end]),
  };
}

export function failedObject(response: ResponseObject, error: SkeinError): ResponseObject {
  return { ...response, status: "failed", error: { code: error.code, message: error.text } };
}
