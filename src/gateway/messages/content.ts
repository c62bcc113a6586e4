/** From Anthropic's messages to those that a model reads. */
import { z } from "zod";
import type { ChatMessage, ToolCall } from "../../protocol/generate.ts";
import { jsonOf } from "../requests/parse-tools.ts";
import { SkeinError } from "../../util/errors.ts";

export const content = z.union([z.string(), z.array(z.looseObject({ type: z.string() }))]);
export type Content = z.infer<typeof content>;
type Blocks = Exclude<Content, string>;

/** @throws SkeinError */
export function messagesOf(
  { role, content: given }: { readonly role: "user" | "assistant"; readonly content: Content },
  at: string,
): ChatMessage[] {
  if (typeof given === "string") return [{ role, content: given }];
  return role === "assistant" ? [assistantMessage(given, at)] : userMessages(given, at);
}

/** What tools answered comes before what the user says to it. */
function userMessages(given: Blocks, at: string): ChatMessage[] {
  const answers = given.flatMap((block, i): ChatMessage[] => {
    if (block.type !== "tool_result") return [];
    const path = `${at}.${i}`;
    const answer = content.safeParse(block["content"] ?? "");
    if (!answer.success) throw wrong(`${path}.content`, "a text, or a list of blocks");
    const toolCallId = textField(block["tool_use_id"], `${path}.tool_use_id`);
    return [{ role: "tool", content: textOf(answer.data, `${path}.content`), toolCallId }];
  });
  const words = given.filter(({ type }) => type !== "tool_result");
  if (words.length === 0 && answers.length > 0) return answers;
  return [...answers, { role: "user", content: textsOf(given, at, ["tool_result"]) }];
}

function assistantMessage(given: Blocks, at: string): ChatMessage {
  const toolCalls = given.flatMap((block, i): ToolCall[] => {
    if (block.type !== "tool_use") return [];
    const path = `${at}.${i}`;
    const { id, name, input } = block;
    const json = typeof input === "object" && input !== null ? jsonOf(input) : null;
    if (json === null) throw wrong(`${path}.input`, "an object");
    return [
      {
        id: textField(id, `${path}.id`),
        name: textField(name, `${path}.name`),
        arguments: json,
      },
    ];
  });
  // Models read no thoughts of earlier turns.
  const text = textsOf(given, at, ["tool_use", "thinking", "redacted_thinking"]);
  return { role: "assistant", content: text, ...(toolCalls.length === 0 ? {} : { toolCalls }) };
}

/** @throws SkeinError `unsupported_parameter`, `invalid_request` */
export function textOf(given: Content, at: string): string {
  return typeof given === "string" ? given : textsOf(given, at, []);
}

/** @param others types of blocks that are read elsewhere */
function textsOf(given: Blocks, at: string, others: readonly string[]): string {
  const texts = given.flatMap(({ type, text }, i) => {
    if (others.includes(type)) return [];
    if (type !== "text") {
      throw new SkeinError("unsupported_parameter", `'${type.slice(0, 50)}' blocks are not supported.`, {
        param: `${at}.${i}`,
        hint: "The models here read text only.",
      });
    }
    return [textField(text, `${at}.${i}.text`)];
  });
  return texts.join("\n");
}

function textField(value: unknown, param: string): string {
  if (typeof value === "string") return value;
  throw wrong(param, "a text");
}

function wrong(param: string, what: string): SkeinError {
  return new SkeinError("invalid_request", `'${param}' must be ${what}.`, { param });
}
