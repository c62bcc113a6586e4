import { createInterface } from "node:readline/promises";
import { text as readAll } from "node:stream/consumers";
import type { Command } from "commander";
import type { ChatEnd, ChatRequest, Client } from "../../client/client.ts";
import type { ChatMessage } from "../../protocol/generate.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import { printable, printableJson, printableLine } from "../../util/printable.ts";
import { type Context, contextOf } from "../context.ts";
import { shortId, styled } from "../terminal.ts";

interface Conversation {
  readonly client: Client;
  readonly options: Omit<ChatRequest, "model" | "messages">;
  model: string;
  system: string | null;
  messages: ChatMessage[];
}

/** `skein chat` */
export async function chat(words: string[], command: Command): Promise<void> {
  const context = contextOf(command);
  const conversation = await begin(context);
  const question =
    words.length > 0 ? words.join(" ") : process.stdin.isTTY ? null : (await readAll(process.stdin)).trim();
  if (question === null) return converse(conversation);
  if (question === "")
    throw new SkeinError("invalid_config", "There is no question.", {
      hint: 'skein chat "What sound does a cow make?"',
    });
  const asJson = context.flags["json"] === true;
  const stopping = new AbortController();
  process.once("SIGINT", () => stopping.abort(new SkeinError("cancelled", "Stopped.")));
  const { text, end, note } = await ask(conversation, question, stopping.signal, (part) => {
    if (!asJson) process.stdout.write(printable(part));
  });
  if (asJson) console.log(printableJson({ model: conversation.model, text, ...end }));
  else console.log();
  if (!asJson) console.error(styled("dim", note, process.stderr));
}

/** The model that is asked for, else the first that is served. */
export async function modelOrFirst(client: Client, wanted: unknown): Promise<string> {
  if (typeof wanted === "string") return wanted;
  const [first] = await client.models();
  if (first !== undefined) return first.id;
  throw new SkeinError("no_provider", `No model is served at ${client.baseUrl} yet.`, {
    hint: "Add one: npx skein provide --model <file.gguf>",
  });
}

async function begin(context: Context): Promise<Conversation> {
  const { flags } = context;
  const client = context.client();
  return {
    client,
    model: await modelOrFirst(client, flags["model"]),
    system: (flags["system"] as string | undefined) ?? null,
    messages: [],
    options: {
      ...numberFlag(flags, "temperature", "temperature"),
      ...numberFlag(flags, "maxTokens", "max_tokens"),
      ...numberFlag(flags, "seed", "seed"),
    },
  };
}

function numberFlag(flags: Context["flags"], key: string, name: string): Record<string, number> {
  const value = flags[key];
  return typeof value === "number" ? { [name]: value } : {};
}

/** Asks, prints as it comes, and remembers both sides. A failed or stopped question is forgotten. */
async function ask(
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

async function converse(conversation: Conversation): Promise<void> {
  console.error(
    styled(
      "dim",
      `${printableLine(conversation.model)} at ${conversation.client.baseUrl} · /exit ends, /reset forgets`,
      process.stderr,
    ),
  );
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: "› " });
  let answering: AbortController | null = null;
  let interrupts = 0;
  lines.on("SIGINT", () => {
    if (answering !== null) answering.abort(new SkeinError("cancelled", "Stopped."));
    else if (++interrupts > 1) return lines.close();
    else console.error(styled("dim", "\n(Ctrl-C again, or /exit, to leave)", process.stderr));
    if (answering === null) lines.prompt();
  });
  lines.prompt();
  for await (const line of lines) {
    interrupts = 0;
    const input = line.trim();
    if (input === "/exit" || input === "/quit") break;
    if (input.startsWith("/")) obey(conversation, input);
    else if (input !== "") {
      answering = new AbortController();
      await answerOne(conversation, input, answering.signal);
      answering = null;
    }
    lines.prompt();
  }
  lines.close();
}

async function answerOne(conversation: Conversation, question: string, signal: AbortSignal): Promise<void> {
  try {
    const { note } = await ask(conversation, question, signal, (part) =>
      process.stdout.write(printable(part)),
    );
    console.log(`\n${styled("dim", note)}`);
  } catch (error) {
    const failure = toSkeinError(error);
    console.log(styled(failure.code === "cancelled" ? "dim" : "red", `\n${printableLine(failure.text)}`));
  }
}

function obey(conversation: Conversation, input: string): void {
  const [command, ...rest] = input.split(" ");
  const value = rest.join(" ").trim();
  if (command === "/reset") conversation.messages = [];
  else if (command === "/model" && value !== "") conversation.model = value;
  else if (command === "/system") conversation.system = value === "" ? null : value;
  else console.log("There are /model NAME, /system TEXT, /reset and /exit.");
}
