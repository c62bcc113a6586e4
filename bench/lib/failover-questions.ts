/** Questions of all kinds that a failover can harm: long, short, with a long prompt, in several bytes a character, with stops, choices and chats. */
import type { Expected } from "../../test/e2e/havoc.ts";
import { type Question, watchStream } from "../../test/e2e/watch-stream.ts";

const tokensMax = 300;
/** Ids of the tiny model's tokens that end an answer; its bytes follow them. */
const endIds = [0, 2];
const firstByteId = 4;
const endless = Object.fromEntries(endIds.map((id) => [id, -100]));
/** Bytes of several scripts: whole characters, and some that never become whole. */
const manyBytes = {
  ...endless,
  ...Object.fromEntries([...Buffer.from("日本語 🦊 éß")].map((byte) => [firstByteId + byte, 6])),
};
/** Most of the tiny model's 512 tokens of context. */
const longPrompt = "A small fox went to the river, and there it met a bear who could count. ".repeat(18);

const plain: readonly Question[] = [
  { seed: 0, max_tokens: tokensMax, logit_bias: endless },
  { seed: 1, max_tokens: tokensMax, logit_bias: endless, temperature: 1 },
  { seed: 2, max_tokens: tokensMax },
  { seed: 3, max_tokens: 60, prompt: `First: ${longPrompt}` },
  { seed: 4, max_tokens: tokensMax, logit_bias: manyBytes, temperature: 1 },
  { seed: 5, max_tokens: 150, n: 2 },
  {
    seed: 6,
    max_tokens: tokensMax,
    messages: [{ role: "user", content: "Tell me of a fox 🦊 and a bear." }],
  },
  {
    seed: 7,
    max_tokens: tokensMax,
    logit_bias: endless,
    temperature: 0.7,
    top_p: 0.9,
    frequency_penalty: 0.4,
  },
  { seed: 8, max_tokens: tokensMax, logit_bias: manyBytes, prompt: "日本語 🦊 été" },
  { seed: 9, max_tokens: 60, prompt: `Second: ${longPrompt}` },
  { seed: 10, max_tokens: tokensMax, logit_bias: endless, temperature: 0 },
];
/** Of an answer, where one of its own pieces becomes a stop. */
const stopShare = 0.7;
const stopChars = 5;

export interface Asked {
  readonly questions: readonly Question[];
  readonly expected: readonly Expected[];
  /** Longest waits between two pieces of text. */
  readonly gapsMs: readonly number[];
}

/** Asks everything once, while nothing disturbs. @throws Error when that fails */
export async function askUndisturbed(url: string, model: string): Promise<Asked> {
  const ask = async (question: Question) => {
    const seen = await watchStream(url, { ...question, model });
    if (seen.error !== null) throw new Error(`undisturbed, ${JSON.stringify(question)}: ${seen.error}`);
    return seen;
  };
  const { text } = await ask(plain[0]!);
  const at = Math.floor(text.length * stopShare);
  const stop = ["never in it", text.slice(at, at + stopChars)];
  const questions = [...plain, { ...plain[0]!, stop }];
  const seen = await Promise.all(questions.map(ask));
  return {
    questions,
    expected: seen.map(({ texts, outputTokens }) => ({ texts, outputTokens })),
    gapsMs: seen.map(({ gapMs }) => gapMs),
  };
}
