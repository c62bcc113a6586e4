/** What a provider says that an answer cost, held against what was asked and received here: the bill never trusts it. */
import { messageText, toolsText } from "../../protocol/chat-texts.ts";
import type { GenerateRequest, Prompt } from "../../protocol/generate.ts";
import { utf8 } from "../../util/bytes.ts";

/** What a chat template may add of its own, such as a system message. */
const templateTokensMax = 1_024;
/** Role and separators around each message. */
const messageTokensMax = 16;
/** Of a function's description each byte may be written with as many of indentation. */
const toolBytesFactor = 4;
/** The token that ends an answer has no text. */
const endTokens = 1;

/**
 * Output tokens of an answer that came without token ids: as many as its provider claims, but no more than
 * its text has bytes, the stop sequence that was cut off included. (Where ids came, they were counted.)
 */
export function believedOutputTokens(
  claimed: number,
  text: string,
  request: Pick<GenerateRequest, "stop" | "outputTokensMax">,
): number {
  const stopBytes = Math.max(0, ...request.stop.map((stop) => utf8(stop).length));
  const received = utf8(text).length + stopBytes + endTokens;
  return Math.min(claimed, received, request.outputTokensMax ?? Number.POSITIVE_INFINITY);
}

/** Prompt tokens as claimed, but no more than the prompt has bytes and a template may add. */
export function believedPromptTokens(claimed: number, prompt: Prompt): number {
  return Math.min(claimed, promptTokensMax(prompt));
}

function promptTokensMax(prompt: Prompt): number {
  switch (prompt.kind) {
    case "tokens":
      return prompt.tokenIds.length + messageTokensMax;
    case "text":
      return utf8(prompt.text + (prompt.suffix ?? "")).length + messageTokensMax;
    case "chat":
      return prompt.messages.reduce(
        (sum, message) =>
          sum + messageTokensMax + utf8(messageText(message)).length + utf8(message.name ?? "").length,
        templateTokensMax + toolBytesFactor * utf8(toolsText(prompt.tools ?? [])).length,
      );
  }
}
