/**
 * Chat templates (Jinja, from the model's file) without prompt injection: whatever a message contains,
 * its text can never become a special token.
 */
import type { ChatMessage, Tool } from "../protocol/generate.ts";
import { type Clock, systemClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { chatDialectOf, withoutThoughts } from "./chat-dialect.ts";
import { chatValues, type TemplateMessage } from "./chat-values.ts";
import { compileTemplate } from "./jinja.ts";

export interface ChatTemplate {
  readonly source: string;
  readonly bosToken: string;
  readonly eosToken: string;
  /** Texts that the tokenizer would parse as one special token. */
  readonly specialTokens: readonly string[];
}

/** A piece of the rendered prompt. Only pieces with `special` are parsed for special tokens. */
export interface Segment {
  readonly text: string;
  readonly special: boolean;
}

/**
 * Renders messages with the generation prompt at the end.
 *
 * Usually the result is one segment, which tokenizes exactly as llama.cpp would tokenize it. Texts that contain
 * a special token are rendered as placeholders and cut out into segments of their own. Whether that was
 * enough is checked against a rendering in which every text is a placeholder, for it shows which special tokens
 * the template itself writes: a template may also put one together, from pieces that are harmless alone.
 *
 * @throws SkeinError `invalid_request` when the template refuses the messages or cannot be used
 */
export function renderChat(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  { clock = systemClock, tools = [], thinks = true }: ChatOptions = {},
): Segment[] {
  if (messages.length === 0) {
    throw new SkeinError("invalid_request", "There are no messages.", {
      hint: "Send at least one.",
      param: "messages",
    });
  }
  const { special, render } = prepare(template);
  const known = messages.map((message) => withKnownRole(template, message));
  const given = chatValues(chatDialectOf(template), known, tools);
  const nowMs = clock.nowMs();
  const fixed = { ...tokensOf(template), ...(thinks ? {} : withoutThoughts) };
  const rendered = (masked: (text: string) => boolean): Rendering =>
    renderMasked((values) => render({ ...fixed, ...values }, nowMs), given, masked);
  const containsSpecial = (text: string): boolean => specialsIn(special, text) !== "";
  // Text that looks like a placeholder is taken out as well, so that none can be forged.
  const isHostile = (text: string): boolean => text.includes(placeholderStart) || containsSpecial(text);

  const wanted = rendered(someText(given, containsSpecial) ? isHostile : () => false);
  const reference = special === null ? null : orNull(() => rendered(() => true));
  const isSafe =
    reference === null || writtenSpecials(special, wanted) === writtenSpecials(special, reference);
  const chosen = isSafe ? wanted : reference;
  if (!chosen.isComplete) throw unrepresentable();
  return chosen.segments;
}

export interface ChatOptions {
  /** Whose time `strftime_now` shows. */
  readonly clock?: Clock;
  readonly tools?: readonly Tool[];
  /** False: the answer is to begin at once, where the template can ask for that. */
  readonly thinks?: boolean;
}

type ChatValues = ReturnType<typeof chatValues>;

interface Prepared {
  /** Finds special tokens, longest first; null when the model has none. */
  readonly special: RegExp | null;
  readonly render: ReturnType<typeof compileTemplate>;
}

const prepared = new WeakMap<ChatTemplate, Prepared>();

function prepare(template: ChatTemplate): Prepared {
  const known = prepared.get(template);
  if (known !== undefined) return known;
  const tokens = template.specialTokens
    .filter((token) => token !== "")
    .toSorted((a, b) => b.length - a.length)
    .map((token) => token.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`));
  const fresh = {
    special: tokens.length === 0 ? null : new RegExp(tokens.join("|"), "g"),
    render: compileTemplate(template.source),
  };
  prepared.set(template, fresh);
  return fresh;
}

function tokensOf({ bosToken, eosToken }: ChatTemplate): object {
  // Templates test `tools is not none`; undefined would pass.
  return {
    bos_token: bosToken,
    eos_token: eosToken,
    add_generation_prompt: true,
    documents: null,
  };
}

function specialsIn(special: RegExp | null, text: string): string {
  return special === null ? "" : (text.match(special) ?? []).join("\0");
}

function writtenSpecials(special: RegExp | null, { segments }: Rendering): string {
  return segments
    .filter((segment) => segment.special)
    .map(({ text }) => specialsIn(special, text))
    .filter((found) => found !== "")
    .join("\0");
}

interface Rendering {
  readonly segments: Segment[];
  /** Whether every placeholder came through, unaltered. */
  readonly isComplete: boolean;
}

/** Characters of Unicode's private use area: no template looks for them, none changes them. */
const placeholderStart = "\uE000";
const placeholder = /\uE000\uE001(\d+)\uE002/;
const remnant = /[\uE000-\uE002]/;

function renderMasked(
  render: (values: { [name in keyof ChatValues]: unknown }) => string,
  { messages, tools }: ChatValues,
  masked: (text: string) => boolean,
): Rendering {
  const texts: string[] = [];
  const mask = (text: string): string => {
    const core = text.trim();
    if (core === "" || !masked(text)) return text;
    // Space around it stays where it is: some templates trim it off, some do not.
    const start = text.indexOf(core);
    texts.push(core);
    return `${text.slice(0, start)}\uE000\uE001${texts.length - 1}\uE002${text.slice(start + core.length)}`;
  };
  // What templates write as JSON: a placeholder takes the place of what would be escaped.
  const maskJson = (text: string): string => {
    if (isPlainWord(text) || !masked(text)) return text;
    texts.push(JSON.stringify(text).slice(1, -1));
    return `\uE000\uE001${texts.length - 1}\uE002`;
  };
  const replaced = messages.map((message): TemplateMessage => ({
    ...message,
    content: mask(message.content),
    ...(message.name === undefined ? {} : { name: mask(message.name) }),
    ...(message.tool_calls === undefined ? {} : { tool_calls: mapTexts(message.tool_calls, maskJson) }),
  }));
  const output = render({ messages: replaced, tools: mapTexts(tools, maskJson) });
  return texts.length === 0 ? whole(output) : cut(output, texts);
}

/** Such texts are no special tokens, and templates compare some of them. */
function isPlainWord(text: string): boolean {
  return /^\w*$/.test(text);
}

/** A value with all its texts replaced, names of members included. */
function mapTexts<T>(value: T, replace: (text: string) => string): T {
  const map = (part: unknown): unknown => {
    if (typeof part === "string") return replace(part);
    if (Array.isArray(part)) return part.map(map);
    if (typeof part !== "object" || part === null) return part;
    return Object.fromEntries(Object.entries(part).map(([name, each]) => [replace(name), map(each)]));
  };
  return map(value) as T;
}

function someText(values: ChatValues, isIt: (text: string) => boolean): boolean {
  let found = false;
  mapTexts(values, (text) => {
    found ||= isIt(text);
    return text;
  });
  return found;
}

function whole(output: string): Rendering {
  return { segments: output === "" ? [] : [{ text: output, special: true }], isComplete: true };
}

function cut(output: string, texts: readonly string[]): Rendering {
  const parts = output.split(placeholder);
  const missing = new Set(texts.keys());
  let isAltered = false;
  const segments = parts.map((part, i): Segment => {
    if (i % 2 === 0) {
      isAltered ||= remnant.test(part);
      return { text: part, special: true };
    }
    missing.delete(Number(part));
    const text = texts[Number(part)];
    isAltered ||= text === undefined;
    return { text: text ?? "", special: false };
  });
  return {
    segments: segments.filter(({ text }) => text !== ""),
    isComplete: missing.size === 0 && !isAltered,
  };
}

function unrepresentable(): SkeinError {
  return new SkeinError(
    "invalid_request",
    "A message contains text of the model's special tokens, and its template alters or drops that message.",
    { hint: "Remove texts such as <|im_end|> from the messages.", param: "messages" },
  );
}

/** Templates that know no `developer` role get it as `system`, its older name. */
function withKnownRole(template: ChatTemplate, message: ChatMessage): ChatMessage {
  if (message.role !== "developer" || template.source.includes("developer")) return message;
  return { ...message, role: "system" };
}

/** The reference may be refused where the request is not: by templates that look into messages. */
function orNull<T>(make: () => T): T | null {
  try {
    return make();
  } catch (error) {
    if (error instanceof SkeinError) return null;
    throw error;
  }
}
