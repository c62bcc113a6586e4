import type { Prompt } from "../../protocol/generate.ts";
import { SkeinError } from "../../util/errors.ts";
import { type ChatTemplate, renderChat } from "../chat-template.ts";
import type { LlamaModel } from "./binding.ts";

/** Token ids of a prompt: template, special tokens and the beginning-of-text token applied. */
export function tokenizePrompt(
  model: LlamaModel,
  template: ChatTemplate | null,
  vocabularySize: number,
  prompt: Prompt,
): number[] {
  switch (prompt.kind) {
    case "tokens":
      checkTokenIds(prompt.tokenIds, vocabularySize);
      return [...prompt.tokenIds];
    case "text":
      return withBos(model, model.tokenize(prompt.text, false));
    case "chat": {
      if (template === null) {
        throw new SkeinError("invalid_request", "This model has no chat template.", {
          hint: "Use /v1/completions with a plain prompt.",
          param: "messages",
        });
      }
      const segments = renderChat(template, prompt.messages);
      const tokens = segments.flatMap(({ text, special }, i) =>
        i === 0 ? model.tokenize(text, special) : model.tokenize(text, special, "trimLeadingSpace"),
      );
      return withBos(model, tokens);
    }
  }
}

function withBos(model: LlamaModel, tokens: number[]): number[] {
  const bos = model._model.tokenBos();
  return model._model.shouldPrependBosToken() && tokens[0] !== bos ? [bos, ...tokens] : tokens;
}

/** Ids from outside reach native code: they must exist. */
export function checkTokenIds(tokenIds: readonly number[], vocabularySize: number): void {
  const wrong = tokenIds.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
  if (wrong !== undefined) {
    throw new SkeinError(
      "invalid_request",
      `Token id ${wrong} is not in the vocabulary of ${vocabularySize}.`,
    );
  }
}
