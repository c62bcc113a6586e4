import type { PromptTokenizer } from "../prompt.ts";
import type { LlamaModel } from "./binding.ts";

export function promptTokenizerOf(model: LlamaModel): PromptTokenizer {
  const withBos = (tokens: number[]): number[] => {
    const bos = model._model.tokenBos();
    return model._model.shouldPrependBosToken() && tokens[0] !== bos ? [bos, ...tokens] : tokens;
  };
  return {
    text: (text) => withBos(model.tokenize(text, false)),
    chat: (segments) =>
      withBos(
        segments.flatMap(({ text, special }, i) =>
          i === 0 ? model.tokenize(text, special) : model.tokenize(text, special, "trimLeadingSpace"),
        ),
      ),
  };
}
