/** Checks with models that are loaded already, in this thread. */
import type { LoadedModel } from "../engine/exact/load.ts";
import { tokenizePrompt } from "../engine/prompt.ts";
import { sha256 } from "../engine/sha256.ts";
import type { KnownRows } from "../exact/commitment/difference.ts";
import type { ReceiptedChoice } from "../receipt/document.ts";
import { SkeinError } from "../util/errors.ts";
import { type VerifiedAnswer, verifyAnswer, withMask } from "./verify-answer.ts";
import type { AnswerChecker, CheckedPart, CheckQuestion } from "./answer-checker.ts";

/** Positions that the replay of an attempt reads: what the model must have room for. */
export function positionsOf({ choice, part }: CheckQuestion): number {
  const claimed = choice.parts
    .slice(0, part + 1)
    .map(
      ({ receipt, checkpoint }) =>
        receipt?.receipt.execution?.positions ?? checkpoint?.checkpoint.positions ?? 1,
    );
  return Math.max(1, ...claimed);
}

/**
 * The beginning of an answer up to and with this attempt. When already the attempts before it are wrong, the fault is theirs, and
 * nothing can be said of this one.
 */
export async function checkPart(
  loaded: LoadedModel,
  { choice, part, known }: CheckQuestion,
): Promise<CheckedPart> {
  const foreign = choice.parts[part]!.tokenIds?.find((token) => token >= loaded.prompt.vocabularySize);
  if (foreign !== undefined) {
    const problem = `token id ${foreign} is not in this model's vocabulary`;
    return { kind: "done", verified: { positions: 0, problem, fault: null, rows: [] }, promptTokens: null };
  }
  try {
    const verified = await verifyUpTo(loaded, choice, part, known ?? null);
    const { prompt } = choice;
    const isComputed = verified.fault !== null && prompt !== null;
    const done: CheckedPart = {
      kind: "done",
      verified,
      promptTokens: isComputed ? tokenizePrompt(loaded.prompt, prompt) : null,
    };
    if (verified.problem === null || part === 0) return done;
    const { fault } = verified;
    // Whatever it was told to go on from: its own draws begin behind that.
    const startPosition = choice.parts[part]!.receipt?.receipt.startPosition ?? 0;
    if (fault?.kind === "token" && fault.position < startPosition) {
      return { kind: "unable", why: "earlier attempt", detail: verified.problem };
    }
    const before = await verifyUpTo(loaded, choice, part - 1, null);
    if (before.problem === null) return done;
    return { kind: "unable", why: "earlier attempt", detail: before.problem };
  } catch (error) {
    if (!(error instanceof SkeinError)) throw error;
    return { kind: "unable", why: inabilityOf(error), detail: error.text };
  }
}

function verifyUpTo(
  loaded: LoadedModel,
  choice: ReceiptedChoice,
  part: number,
  known: KnownRows | null,
): Promise<VerifiedAnswer> {
  const beginning = { ...choice, parts: choice.parts.slice(0, part + 1) };
  return withMask(loaded, beginning, (mask) => {
    const steps = verifyAnswer(sha256, loaded, beginning, { known, mask });
    for (;;) {
      const { done, value } = steps.next();
      if (done === true) return value;
    }
  });
}

function inabilityOf({ code, message }: SkeinError) {
  if (code === "context_length_exceeded" || code === "overloaded") return "busy";
  if (message.includes("other operations")) return "engine version";
  return "prompt not shown";
}

/** Of a single model. */
export function createLoadedChecker(loaded: LoadedModel): AnswerChecker {
  const { modelId } = loaded.facts;
  return {
    has: (wanted) => wanted === modelId,
    check: async (question) => {
      const asked = question.choice.parts[question.part]!.asked.modelId;
      return asked === modelId ? checkPart(loaded, question) : modelNotHere(asked);
    },
    close: async () => undefined,
  };
}

export function modelNotHere(modelId: string): CheckedPart {
  return { kind: "unable", why: "model not here", detail: `The model ${modelId} is not here.` };
}
