/** What a chat template is given: messages and functions in the shapes that templates expect. */
import type { ChatMessage, Tool, ToolCall } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import type { ChatDialect } from "./chat-dialect.ts";

/** As in Hugging Face's `apply_chat_template`. */
export interface TemplateMessage {
  readonly role: ChatMessage["role"];
  readonly content: string;
  readonly name?: string;
  readonly tool_calls?: readonly TemplateCall[];
  readonly tool_call_id?: string;
}

interface TemplateCall {
  readonly id: string;
  readonly type: "function";
  readonly function: { readonly name: string; readonly arguments: unknown };
}

/** Levels of JSON; deeper arguments are given as text, deeper schemas refused. */
const depthMax = 100;

/** @throws SkeinError `invalid_request` for a function whose schema is no JSON object */
export function chatValues(
  dialect: ChatDialect,
  messages: readonly ChatMessage[],
  tools: readonly Tool[],
): { readonly messages: readonly TemplateMessage[]; readonly tools: readonly object[] | null } {
  // Templates test `tools is not none`; undefined would pass.
  if (!dialect.knowsTools) return { messages: inWords(dialect, messages, tools), tools: null };
  const idOf = dialect.toolFormat.startsWith("mistral") ? shortId : (id: string): string => id;
  const known = dialect.toolFormat === "llama3" ? oneByOne(messages) : messages;
  return {
    messages: known.map((message) => asTemplate(message, idOf)),
    tools: tools.length === 0 ? null : tools.map(describedTool),
  };
}

/** Llama's templates take one call in a message: each is followed by its answer. */
function oneByOne(messages: readonly ChatMessage[]): ChatMessage[] {
  const answers = new Map(messages.map((message) => [message.toolCallId, message]));
  const told = new Set<ChatMessage>();
  return messages.flatMap((message) => {
    if (told.has(message)) return [];
    const { toolCalls = [], content } = message;
    if (toolCalls.length < 2) return [message];
    return toolCalls.flatMap((call, i): ChatMessage[] => {
      const own = { ...message, content: i === 0 ? content : "", toolCalls: [call] };
      const answer = answers.get(call.id);
      if (answer === undefined || told.has(answer)) return [own];
      told.add(answer);
      return [own, answer];
    });
  });
}

function asTemplate(
  { role, content, name, toolCalls, toolCallId }: ChatMessage,
  idOf: (id: string) => string,
): TemplateMessage {
  return {
    role,
    content,
    ...(name === undefined ? {} : { name }),
    ...(toolCalls === undefined ? {} : { tool_calls: toolCalls.map((call) => templateCall(call, idOf)) }),
    ...(toolCallId === undefined ? {} : { tool_call_id: idOf(toolCallId) }),
  };
}

function templateCall({ id, name, arguments: text }: ToolCall, idOf: (id: string) => string): TemplateCall {
  // A call that was cut is no JSON.
  return { id: idOf(id), type: "function", function: { name, arguments: objectIn(text) ?? text } };
}

/** Mistral's templates take ids of nine letters and digits only. */
function shortId(id: string): string {
  if (/^[0-9A-Za-z]{9}$/.test(id)) return id;
  let hash = 0xcbf29ce484222325n;
  for (let i = 0; i < id.length; i++) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(id.charCodeAt(i))) * 0x100000001b3n);
  }
  return hash.toString(36).padStart(9, "0").slice(-9);
}

/** As templates expect it: OpenAI's shape, names first. @throws SkeinError `invalid_request` */
function describedTool({ name, description, parameters: text }: Tool): object {
  const parameters = objectIn(text);
  if (parameters === null) {
    throw new SkeinError("invalid_request", `The schema of the function '${name}' is no JSON object.`, {
      param: "tools",
    });
  }
  return {
    type: "function",
    function: { name, ...(description === undefined ? {} : { description }), parameters },
  };
}

function objectIn(text: string): object | null {
  if (isDeep(text)) return null;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/** Brackets in texts count, too: who nests so deep gets no better. */
function isDeep(text: string): boolean {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === "{" || character === "[") depth += 1;
    else if (character === "}" || character === "]") depth -= 1;
    if (depth > depthMax) return true;
  }
  return false;
}

/** For templates that know no functions: everything as text (docs/API.md, "Tools"). */
function inWords(
  { knowsSystem }: ChatDialect,
  messages: readonly ChatMessage[],
  tools: readonly Tool[],
): TemplateMessage[] {
  const names = new Map<string, string>();
  const told: TemplateMessage[] = [];
  for (const { role, content, name, toolCalls = [], toolCallId = "" } of messages) {
    for (const call of toolCalls) names.set(call.id, call.name);
    if (role === "tool") {
      const text = `The function ${names.get(toolCallId) ?? name ?? toolCallId} answered:\n${content}`;
      const before = told.at(-1);
      // Some templates want users and assistants to alternate.
      if (before?.role === "user")
        told[told.length - 1] = { ...before, content: `${before.content}\n\n${text}` };
      else told.push({ role: "user", content: text });
      continue;
    }
    const parts = [...(content === "" ? [] : [content]), ...toolCalls.map(callInWords)];
    told.push({ role, content: parts.join("\n"), ...(name === undefined ? {} : { name }) });
  }
  return tools.length === 0 ? told : withInstructions(told, toolsInWords(tools), knowsSystem);
}

function callInWords({ name, arguments: text }: ToolCall): string {
  return `{"name": ${JSON.stringify(name)}, "arguments": ${text === "" ? "{}" : text}}`;
}

function toolsInWords(tools: readonly Tool[]): string {
  const list = tools.map(({ name, description, parameters }) => {
    const about = description === undefined ? "" : `, "description": ${JSON.stringify(description)}`;
    return `{"name": ${JSON.stringify(name)}${about}, "parameters": ${parameters}}`;
  });
  return [
    "You can call these functions:",
    ...list,
    'To call one, answer with nothing but a JSON object like {"name": "function", "arguments": {"parameter": "value"}}; ' +
      "to call several, with one on each line. What they answer comes in the next message. " +
      "When no function helps, answer in words.",
  ].join("\n");
}

function withInstructions(
  messages: readonly TemplateMessage[],
  text: string,
  knowsSystem: boolean,
): TemplateMessage[] {
  const [first] = messages;
  const takesIt = knowsSystem
    ? first?.role === "system" || first?.role === "developer"
    : first?.role === "user";
  if (first !== undefined && takesIt) {
    const content = knowsSystem ? `${first.content}\n\n${text}` : `${text}\n\n${first.content}`;
    return [{ ...first, content }, ...messages.slice(1)];
  }
  return [{ role: knowsSystem ? "system" : "user", content: text }, ...messages];
}
