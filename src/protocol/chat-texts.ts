/** What a chat prompt is long because of: for estimates, bounds and hashes. */
import type { ChatMessage, Prompt, Tool } from "./generate.ts";

type Chat = Extract<Prompt, { kind: "chat" }>;

/** One text for each message, behind one for the functions where there are some. */
export function chatTexts({ messages, tools = [] }: Pick<Chat, "messages" | "tools">): string[] {
  const texts = messages.map(messageText);
  return tools.length === 0 ? texts : [toolsText(tools), ...texts];
}

/** Its content, and the functions that it calls. */
export function messageText({ content, toolCalls }: ChatMessage): string {
  if (toolCalls === undefined) return content;
  return [content, ...toolCalls.map(({ id, name, arguments: text }) => `${id} ${name} ${text}`)].join("\n");
}

export function toolsText(tools: readonly Tool[]): string {
  return tools
    .map(({ name, description = "", parameters }) => `${name} ${description} ${parameters}`)
    .join("\n");
}
