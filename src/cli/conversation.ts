/** A conversation with a model: what was said, and the commands that change it. No terminal is in it. */
import type { ChatEnd, ChatRequest, Client } from "../client/client.ts";
import type { ChatMessage } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import { printableLine } from "../util/printable.ts";
import { provideCommand, shortId } from "./terminal.ts";

export interface Conversation {
  readonly client: Client;
  readonly options: Omit<ChatRequest, "model" | "messages">;
  model: string;
  system: string | null;
  messages: ChatMessage[];
}

/** The model that is asked for, else the first that is served. */
export async function modelOrFirst(client: Client, wanted: unknown): Promise<string> {
  if (typeof wanted === "string") return wanted;
  const [first] = await client.models();
  if (first !== undefined) return first.id;
  throw new SkeinError("no_provider", `No model is served at ${client.baseUrl} yet.`, {
    hint: `Add one: ${provideCommand(client.baseUrl)}`,
  });
}

/** Asks, prints as it comes, and remembers both sides. A failed or stopped question is forgotten. */
export async function ask(
  conversation: Conversation,
  question: string,
  signal: AbortSignal,
  print: (part: string) => void,
): Promise<{ text: string; end: ChatEnd; note: string }> {
  const { client, model, system, options } = conversation;
  const asked: ChatMessage = { role: "user", content: question };
  const messages: ChatMessage[] = [
    ...(system === null ? [] : [{ role: "system" as const, content: system }]),
    ...conversation.messages,
    asked,
  ];
  const startMs = performance.now();
  let firstMs: number | null = null;
  let text = "";
  const answer = client.chat({ model, messages, ...options }, signal);
  for (;;) {
    const { value, done } = await answer.next();
    if (done === true) {
      conversation.messages.push(asked, { role: "assistant", content: text });
      return { text, end: value, note: describe(value, startMs, firstMs) };
    }
    firstMs ??= performance.now();
    text += value;
    print(value);
  }
}

function describe({ usage, served, finishReason }: ChatEnd, startMs: number, firstMs: number | null): string {
  const endMs = performance.now();
  const parts: string[] = [];
  if (usage !== null) {
    const pace = firstMs === null ? 0 : (usage.completion_tokens - 1) / ((endMs - firstMs) / 1000);
    parts.push(
      `${usage.completion_tokens} tokens${pace > 0 && Number.isFinite(pace) ? `, ${pace.toFixed(0)}/s` : ""}`,
    );
  }
  if (firstMs !== null) parts.push(`first after ${(firstMs - startMs).toFixed(0)} ms`);
  if (served !== null) parts.push(`by ${shortId(served.provider)}`);
  if (usage !== null) parts.push(`$${usage.fee.usd}`);
  if (finishReason === "length") parts.push("cut at the length limit");
  return printableLine(parts.join(" · "));
}

/** Does what a line that begins with a slash says. False: there is no such command. */
export function obey(conversation: Conversation, input: string): boolean {
  const [command, ...rest] = input.split(" ");
  const value = rest.join(" ").trim();
  if (command === "/reset") conversation.messages = [];
  else if (command === "/model" && value !== "") conversation.model = value;
  else if (command === "/system") conversation.system = value === "" ? null : value;
  else return false;
  return true;
}
