/** One choice of a kept answer against the model itself: prompt, numbers, draws and text. Only the exact tier can be checked so. */
import { type TokenMask, TokenMasks } from "../engine/masks/token-masks.ts";
import { AnswerWriter } from "../engine/answer-writer.ts";
import type { LoadedModel } from "../engine/exact/load.ts";
import { tokenizePrompt } from "../engine/prompt.ts";
import { writeAgain, type WrittenAnswer } from "../engine/written-answer.ts";
import type { Sha256 } from "../exact/commitment/commitment.ts";
import type { KnownRows } from "../exact/commitment/difference.ts";
import { opsHash } from "../exact/ops/version.ts";
import { samplerParameters } from "../exact/sampler/parameters.ts";
import type { Prompt, Sampling } from "../protocol/generate.ts";
import { optionsOf } from "../receipt/asked.ts";
import type { Part, ReceiptedChoice } from "../receipt/document.ts";
import { type Claim, type Fault, replayAnswer } from "../receipt/replay.ts";
import { wholeAnswer } from "../receipt/whole-answer.ts";
import { tokensHash } from "../receipt/words.ts";
import { equalBytes } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";

export interface VerifiedAnswer {
  /** That were computed again. */
  readonly positions: number;
  /** In words; null: the answer is what this model gives. */
  readonly problem: string | null;
  readonly fault: Fault | null;
  /** Hashes of the rows that were computed. */
  readonly rows: readonly Uint8Array[];
}

export interface VerifyOptions {
  /** Rows and leaves that the provider gave out, to tell the layer of a wrong number; null: none. */
  readonly known: KnownRows | null;
  /** Of the request's constraint, from `withMask`; null: it has none. */
  readonly mask: TokenMask | null;
}

/**
 * Calls back with what the answer's constraint allows, at its beginning.
 * @throws SkeinError `invalid_request` for a grammar that cannot be used
 */
export async function withMask<T>(
  { vocabulary, prompt: { vocabularySize } }: LoadedModel,
  { parts }: ReceiptedChoice,
  act: (mask: TokenMask | null) => T,
): Promise<T> {
  const constraint = parts[0] === undefined ? undefined : optionsOf(parts[0].asked).constraint;
  if (constraint === undefined) return act(null);
  const masks = new TokenMasks({ ...vocabulary, vocabularySize });
  try {
    return act(await masks.open(constraint.grammar, []));
  } finally {
    masks.close();
  }
}

/**
 * Yields positions done and in all.
 * @throws SkeinError `invalid_request` when there is nothing that could be checked: no prompt, no commitment, another model
 */
export function* verifyAnswer(
  sha256: Sha256,
  loaded: LoadedModel,
  { prompt, parts }: ReceiptedChoice,
  options: VerifyOptions = { known: null, mask: null },
): Generator<{ readonly done: number; readonly total: number }, VerifiedAnswer> {
  checkVerifiable(loaded, prompt, parts, options);
  // 1. The prompt as this model reads it.
  const promptTokens = tokenizePrompt(loaded.prompt, prompt);
  const promptProblem = promptProblemOf(sha256, promptTokens, parts);
  if (promptProblem !== null) return { positions: 0, problem: promptProblem, fault: null, rows: [] };
  // 2. Text and ending, which follow from the tokens.
  const textProblem = textProblemOf(loaded, promptTokens.length, parts);
  if (textProblem !== null) return { positions: 0, problem: textProblem, fault: null, rows: [] };
  // 3. Numbers and draws.
  const claims = parts.flatMap(claimOf);
  if (claims.length === 0) return { positions: 0, problem: null, fault: null, rows: [] };
  const outputTokens = wholeAnswer(parts).tokenIds ?? [];
  const total = Math.max(...claims.map(({ positions }) => positions));
  const replay = replayAnswer(
    { sha256, executor: loaded.executor },
    {
      promptTokens,
      outputTokens,
      sampler: samplerParameters(samplingOf(parts[0]!)),
      mask: options.mask,
      isEnd: loaded.vocabulary.isEnd,
      claims,
      hasEnd: total === promptTokens.length + outputTokens.length && isStopped(parts),
      known: options.known,
    },
  );
  for (;;) {
    const { done, value } = replay.next();
    if (done !== true) yield { done: value, total };
    else return { ...value, problem: value.fault === null ? null : describe(value.fault) };
  }
}

function checkVerifiable(
  { facts }: LoadedModel,
  prompt: Prompt | null,
  parts: readonly Part[],
  { mask }: VerifyOptions,
): asserts prompt is Prompt {
  const cannot = (why: string, hint?: string): SkeinError =>
    new SkeinError(
      "invalid_request",
      `This answer cannot be computed again: ${why}.`,
      hint === undefined ? {} : { hint },
    );
  if (parts.length === 0) throw cannot("nobody has answered");
  const { tier, modelId } = parts[0]!.asked;
  if (tier !== "exact") {
    throw cannot(`its tier is '${tier}'`, "Only models in integers give the same numbers everywhere.");
  }
  if (modelId !== facts.modelId) throw cannot(`it is of ${modelId}, not of ${facts.modelId}`);
  const isConstrained = parts.some(({ asked }) => optionsOf(asked).constraint !== undefined);
  if (isConstrained && mask === null) throw cannot("what its form allows is not known");
  if (prompt === null) throw cannot("its prompt was too long to be kept");
  if (parts.some(({ tokenIds }) => tokenIds === null)) throw cannot("its token ids are not known");
  const others = parts.flatMap(({ receipt }) => receipt?.receipt.opsHash ?? []);
  if (others.some((hash) => !equalBytes(hash, opsHash))) {
    throw cannot("it was made with other operations", "Use the version of Skein that its receipt names.");
  }
}

function claimOf({ receipt, checkpoint }: Part): Claim[] {
  const execution = receipt?.receipt.execution ?? null;
  if (execution !== null) return [execution];
  return checkpoint === null ? [] : [{ ...checkpoint.checkpoint, root: null }];
}

function isStopped(parts: readonly Part[]): boolean {
  return parts.at(-1)?.receipt?.receipt.finish === "stop";
}

export function samplingOf({ asked }: Part): Sampling {
  const { logitBias } = optionsOf(asked);
  return { ...asked.sampling, logitBias };
}

function promptProblemOf(
  sha256: Sha256,
  promptTokens: readonly number[],
  parts: readonly Part[],
): string | null {
  for (const { receipt } of parts) {
    if (receipt === null) continue;
    const { promptTokensHash, promptTokens: count } = receipt.receipt;
    if (count !== promptTokens.length) {
      return `the prompt has ${promptTokens.length} tokens in this model, not ${count}`;
    }
    if (promptTokensHash !== null && !equalBytes(promptTokensHash, tokensHash(sha256, promptTokens))) {
      return "this model reads the prompt as other tokens";
    }
  }
  return null;
}

/** Writes the answer again from its tokens. */
function textProblemOf(
  { vocabulary: { pieces } }: LoadedModel,
  promptTokens: number,
  parts: readonly Part[],
): string | null {
  let emitted = { tokenIds: [] as number[], text: "" };
  for (const [i, part] of parts.entries()) {
    const { requestId, modelId, outputTokensMax, contextTokensMax: contextTokens } = part.asked;
    if (part.textFrom !== undefined) {
      const tokenIds = emitted.tokenIds.slice(0, part.asked.emitted.tokens);
      emitted = { tokenIds, text: emitted.text.slice(0, part.textFrom) };
    }
    const { stop } = optionsOf(part.asked);
    const prompt = { kind: "text", text: "" } as const;
    const sampling = samplingOf(part);
    const given = { requestId, modelId, prompt, emitted, sampling, stop, outputTokensMax };
    const asked = { ...given, constraint: null, logprobs: null, timeoutMs: 0 };
    const writer = new AnswerWriter(asked, { promptTokens, contextTokens, pieces });
    const written = writeAgain(writer, part.tokenIds!, part.receipt?.receipt.finish === "stop");
    const name = `attempt ${i + 1}`;
    if (written.text !== part.text) return `the tokens of ${name} give another text than the one delivered`;
    emitted = { tokenIds: [...emitted.tokenIds, ...part.tokenIds!], text: emitted.text + part.text };
    const problem = endProblem(part, written, promptTokens + emitted.tokenIds.length);
    if (problem !== null) return `${name} ${problem}`;
  }
  return null;
}

function endProblem(
  { receipt, asked }: Part,
  { finish, byModel }: WrittenAnswer,
  positions: number,
): string | null {
  if (receipt === null) return null;
  const { finish: claimed, execution } = receipt.receipt;
  // The draw that ended it follows from the last position that was read.
  if (byModel && execution?.positions !== positions) return "does not commit to its end";
  if (finish === null && claimed !== "length") return null;
  // Its form may be complete with the very last token: the replay sees whether it is.
  if (finish === "length" && claimed === "stop" && optionsOf(asked).constraint !== undefined) return null;
  return finish === claimed
    ? null
    : `says that it ended by '${claimed}', which does not follow from its tokens`;
}

function describe(fault: Fault): string {
  if (fault.kind === "token") {
    const claimed = fault.claimed === null ? "the end" : `token ${fault.claimed}`;
    return `token ${fault.position + 1} of the answer is ${claimed}, but this model draws ${fault.drawn}`;
  }
  const { position, lastPosition, part } = fault;
  const where =
    part === null ? "" : part === "token" ? ", the token" : part === 0 ? ", embedding" : `, layer ${part}`;
  return position === lastPosition
    ? `this model gives other numbers at position ${position}${where}`
    : `this model gives other numbers somewhere from position ${position} to ${lastPosition}`;
}
