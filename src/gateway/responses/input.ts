/** From the input items of a response to the messages that a model reads. */
import { z } from "zod";
import type { ChatMessage, ToolCall } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import type { OutputItem } from "./output.ts";

const part = z.looseObject({ type: z.string() });
export const inputItem = z.looseObject({
  type: z.string().nullish(),
  role: z.string().nullish(),
  content: z.union([z.string(), z.array(part)]).nullish(),
});
export type InputItem = z.infer<typeof inputItem>;

/** @throws SkeinError `invalid_request`, `unsupported_parameter` */
export function messagesOf(items: readonly InputItem[]): ChatMessage[] {
  const messages: ChatMessage[] = [];
  for (const [i, item] of items.entries()) {
    const at = `input.${i}`;
    const type = item.type ?? "message";
    if (type === "function_call") addCall(messages, callOf(item, at));
    else if (type === "function_call_output") messages.push(callOutput(item, at));
    // Models read no thoughts of earlier turns.
    else if (type !== "reasoning") messages.push(messageOf({ ...item, type }, at));
  }
  return messages;
}

/** What an answer adds to its conversation; nothing where there is none. */
export function answerMessages(output: readonly OutputItem[]): ChatMessage[] {
  const said = output.filter((item) => item.type !== "reasoning");
  const messages: ChatMessage[] = [];
  for (const item of said) {
    if (item.type === "function_call") {
      addCall(messages, { id: item.call_id, name: item.name, arguments: item.arguments });
    } else messages.push({ role: "assistant", content: item.content[0]?.text ?? "" });
  }
  return messages;
}

/** Calls belong to the assistant's message before them. */
function addCall(messages: ChatMessage[], call: ToolCall): void {
  const last = messages.at(-1);
  if (last?.role !== "assistant") messages.push({ role: "assistant", content: "", toolCalls: [call] });
  else messages[messages.length - 1] = { ...last, toolCalls: [...(last.toolCalls ?? []), call] };
}

function callOf(item: InputItem, at: string): ToolCall {
  const { call_id: id, name, arguments: given } = item;
  return {
    id: textField(id, `${at}.call_id`),
    name: textField(name, `${at}.name`),
    arguments: textField(given, `${at}.arguments`),
  };
}

function callOutput({ call_id: id, output }: InputItem, at: string): ChatMessage {
  const parts = Array.isArray(output) ? z.array(part).safeParse(output) : null;
  if (parts?.success === false) {
    throw new SkeinError("invalid_request", `'${at}.output' must be a text, or a list of parts.`, {
      param: `${at}.output`,
    });
  }
  const content = parts === null ? textField(output, `${at}.output`) : textOf(parts.data, `${at}.output`);
  return { role: "tool", content, toolCallId: textField(id, `${at}.call_id`) };
}

function textField(value: unknown, param: string): string {
  if (typeof value === "string") return value;
  throw new SkeinError("invalid_request", `'${param}' must be a text.`, { param });
}

function messageOf({ type, role, content }: InputItem & { readonly type: string }, at: string): ChatMessage {
  if (type !== "message") {
    throw new SkeinError("unsupported_parameter", `'${type.slice(0, 50)}' items are not supported.`, {
      param: `${at}.type`,
      hint: "The models here read messages, and calls of functions with their outputs.",
    });
  }
  if (role !== "user" && role !== "assistant" && role !== "system" && role !== "developer") {
    throw new SkeinError("invalid_request", `'${at}.role' must be user, assistant, system or developer.`, {
      param: `${at}.role`,
    });
  }
  if (content == null) {
    throw new SkeinError("invalid_request", `'${at}.content' must be a text, or a list of parts.`, {
      param: `${at}.content`,
    });
  }
  return { role, content: typeof content === "string" ? content : textOf(content, `${at}.content`) };
}

function textOf(parts: readonly z.infer<typeof part>[], at: string): string {
  const texts = parts.map(({ type, text }, i) => {
    const param = `${at}.${i}`;
    if (type !== "input_text" && type !== "output_text" && type !== "text") {
      throw new SkeinError("unsupported_parameter", `'${type.slice(0, 50)}' parts are not supported.`, {
        param,
        hint: "The models here read text only.",
      });
    }
    if (typeof text === "string") return text;
    throw new SkeinError("invalid_request", `'${param}.text' must be a text.`, { param: `${param}.text` });
  });
  return texts.join("\n");
}
