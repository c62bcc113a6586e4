/**
 * Chat templates (Jinja, from the model's file) without prompt injection: whatever a message contains,
 * its text can never become a special token.
 */
import { Template } from "@huggingface/jinja";
import type { ChatMessage } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";

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

/** The longest templates in use have about 20,000 characters. */
export const chatTemplateCharsMax = 200_000;

const compiled = new WeakMap<ChatTemplate, Template>();

/**
 * Renders messages with the generation prompt at the end.
 *
 * When no message contains the text of a special token, the result is one segment that tokenizes
 * exactly as llama.cpp would. Otherwise the offending contents are rendered as placeholders and cut out
 * into segments of their own.
 *
 * @throws SkeinError `invalid_request` when the template refuses the messages.
 */
export function renderChat(template: ChatTemplate, messages: readonly ChatMessage[]): Segment[] {
  // Text that looks like a placeholder is taken out as well, so that none can be forged.
  const hostile = (text: string): boolean =>
    text.includes(placeholderStart) ||
    template.specialTokens.some((token) => token !== "" && text.includes(token));
  const plain = messages.map((message) => withKnownRole(template, message));
  if (!plain.some(({ content, name }) => hostile(content) || hostile(name ?? ""))) {
    return [{ text: render(template, plain), special: true }];
  }
  const contents: string[] = [];
  const replaced = plain.map((message): ChatMessage => {
    if (hostile(message.name ?? "")) {
      throw new SkeinError("invalid_request", "A message's name contains a special token of the model.", {
        param: "messages",
      });
    }
    if (!hostile(message.content)) return message;
    // Templates commonly trim contents; a placeholder has nothing to trim, so that is done here.
    contents.push(message.content.trim());
    return { ...message, content: placeholder(contents.length - 1) };
  });
  return cut(render(template, replaced), contents);
}

/** Characters of Unicode's private use area: no template looks for them, none changes them. */
const placeholderStart = "\uE000";

function placeholder(index: number): string {
  return `${placeholderStart}\uE001${index}\uE002`;
}

function cut(rendered: string, contents: readonly string[]): Segment[] {
  const parts = rendered.split(/\uE000\uE001(\d+)\uE002/);
  const found = parts.filter((_, i) => i % 2 === 1);
  // A message shown twice or in another order is the template's business; one that vanished is too.
  if (found.some((index) => contents[Number(index)] === undefined)) throw unrepresentable();
  return parts
    .map((part, i): Segment =>
      i % 2 === 0 ? { text: part, special: true } : { text: contents[Number(part)]!, special: false },
    )
    .filter(({ text }) => text !== "");
}

function unrepresentable(): SkeinError {
  return new SkeinError(
    "invalid_request",
    "A message contains characters that this model's template reserves.",
    {
      hint: "Remove private-use characters (U+E000 to U+E002) from the messages.",
      param: "messages",
    },
  );
}

/** Templates that know no `developer` role get it as `system`, its older name. */
function withKnownRole(template: ChatTemplate, message: ChatMessage): ChatMessage {
  if (message.role !== "developer" || template.source.includes("developer")) return message;
  return { ...message, role: "system" };
}

function render(template: ChatTemplate, messages: readonly ChatMessage[]): string {
  try {
    return compile(template).render({
      messages: messages.map((message) => ({ ...message })),
      add_generation_prompt: true,
      bos_token: template.bosToken,
      eos_token: template.eosToken,
    });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new SkeinError(
      "invalid_request",
      `The model's chat template refused the messages: ${reason.slice(0, 300)}`,
      {
        param: "messages",
        cause: error,
      },
    );
  }
}

function compile(template: ChatTemplate): Template {
  const known = compiled.get(template);
  if (known !== undefined) return known;
  const fresh = new Template(template.source);
  compiled.set(template, fresh);
  return fresh;
}
