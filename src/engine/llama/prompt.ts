import type { InfillTexts, PromptTokenizer } from "../prompt.ts";
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

/** Null unless each of the three is one special token that its text is parsed to. */
export function infillTextsOf(model: LlamaModel): InfillTexts | null {
  const { infill } = model.tokens;
  const textOf = (id: number | null): string | null => {
    const text = id === null ? undefined : model._model.getTokenString(id);
    if (text === undefined) return null;
    const parsed = model.tokenize(text, true, "trimLeadingSpace");
    return parsed.length === 1 && parsed[0] === id ? text : null;
  };
  const [prefix, suffix, middle] = [textOf(infill.prefix), textOf(infill.suffix), textOf(infill.middle)];
  return prefix === null || suffix === null || middle === null ? null : { prefix, suffix, middle };
}
