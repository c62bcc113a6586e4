/** From a request's prompt to token ids, and what is refused on the way: the same for every engine with a tokenizer. */
import type { Prompt, Sampling } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import { type ChatTemplate, renderChat, type Segment } from "./chat-template.ts";

/** Both put the beginning-of-text token in front where the model wants one. */
export interface PromptTokenizer {
  /** Special tokens in it stay text. */
  text(text: string): number[];
  chat(segments: readonly Segment[]): number[];
}

/** Special tokens around a text whose middle is wanted, as texts that are parsed as special. */
export interface InfillTexts {
  readonly prefix: string;
  readonly suffix: string;
  readonly middle: string;
}

export interface PromptModel {
  readonly tokenizer: PromptTokenizer;
  readonly chatTemplate: ChatTemplate | null;
  readonly vocabularySize: number;
  /** Null or absent: the model fills in nothing. */
  readonly infill?: InfillTexts | null;
}

/** Token ids of a prompt, at least one. @throws SkeinError `invalid_request` */
export function tokenizePrompt(model: PromptModel, prompt: Prompt): number[] {
  const tokens = tokenize(model, prompt);
  if (tokens.length > 0) return tokens;
  throw new SkeinError("invalid_request", "The prompt is empty.", { hint: "Give at least one token." });
}

function tokenize(model: PromptModel, prompt: Prompt): number[] {
  const { tokenizer, chatTemplate, vocabularySize } = model;
  switch (prompt.kind) {
    case "tokens":
      checkTokenIds(prompt.tokenIds, vocabularySize);
      return [...prompt.tokenIds];
    case "text":
      if (prompt.suffix !== undefined)
        return tokenizer.chat(infillSegments(model, prompt.text, prompt.suffix));
      return tokenizer.text(prompt.text);
    case "chat":
      if (chatTemplate === null) {
        throw new SkeinError("invalid_request", "This model has no chat template.", {
          hint: "Use /v1/completions with a plain prompt.",
          param: "messages",
        });
      }
      return tokenizer.chat(renderChat(chatTemplate, prompt.messages, prompt));
  }
}

/** In the order that all these models were trained with: what stands before, what stands behind, then the middle comes. */
function infillSegments({ infill }: PromptModel, before: string, behind: string): Segment[] {
  if (infill == null) {
    throw new SkeinError(
      "unsupported_parameter",
      "This model has no tokens to fill in the middle of a text.",
      {
        param: "suffix",
        hint: "Leave it out, or choose a model for code.",
      },
    );
  }
  return [
    { text: infill.prefix, special: true },
    { text: before, special: false },
    { text: infill.suffix, special: true },
    { text: behind, special: false },
    { text: infill.middle, special: true },
  ];
}

/** Ids from outside must exist: some engines read whatever memory they point to. */
export function checkTokenIds(tokenIds: readonly number[], vocabularySize: number): void {
  const wrong = tokenIds.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
  if (wrong !== undefined) {
    throw new SkeinError(
      "invalid_request",
      `Token id ${wrong} is not in the vocabulary of ${vocabularySize}.`,
    );
  }
}

/** @throws SkeinError `invalid_request` for a token that does not exist */
export function checkLogitBias({ logitBias }: Sampling, vocabularySize: number): void {
  const wrong = logitBias.find(([id]) => id >= vocabularySize);
  if (wrong === undefined) return;
  throw new SkeinError(
    "invalid_request",
    `Token id ${wrong[0]} in 'logit_bias' is not in this model's vocabulary of ${vocabularySize}.`,
    { param: "logit_bias", hint: "Use token ids of the model that answers." },
  );
}

/** There must be room for one more token, unless the answer so far fills the context exactly. */
export function checkContext(promptTokens: number, emittedTokens: number, contextTokens: number): void {
  if (promptTokens < contextTokens && promptTokens + emittedTokens <= contextTokens) return;
  const answer = emittedTokens === 0 ? "" : ` and its answer so far ${emittedTokens}`;
  throw tooLong(`${promptTokens} tokens${answer}`, contextTokens);
}

/** Refuses texts that are too long however they become tokens: reading them takes a while. */
export function checkTextLength(characters: number, tokenBytesMax: number, contextTokens: number): void {
  const tokensMin = Math.ceil(characters / tokenBytesMax);
  if (tokensMin >= contextTokens) throw tooLong(`at least ${tokensMin} tokens`, contextTokens);
}

function tooLong(what: string, contextTokens: number): SkeinError {
  return new SkeinError(
    "context_length_exceeded",
    `The prompt has ${what}, but this model's context is ${contextTokens} tokens for prompt and answer together.`,
    { hint: "Shorten it, or choose a model with a longer context.", param: "messages" },
  );
}
