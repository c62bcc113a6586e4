/** Everything about a kept answer that needs no model: its receipts one by one, and how they fit together. */
import type { Sha256 } from "../exact/commitment/commitment.ts";
import { equalBytes, toHex } from "../util/bytes.ts";
import { type Asked, emittedHashes, promptHash, requestHash } from "./asked.ts";
import { type Check, checkReceipt } from "./check.ts";
import { checkpointDigest, isSignedCheckpoint } from "./checkpoint.ts";
import type { Part, ReceiptDocument, ReceiptedChoice } from "./document.ts";
import { receiptDigest } from "./receipt.ts";
import { wholeAnswer } from "./whole-answer.ts";

/** A check of one attempt at one choice. */
export interface PlacedCheck extends Check {
  readonly choice: number;
  readonly replica?: number;
  /** Number of the attempt, from 0. */
  readonly part: number;
}

export async function checkDocument(sha256: Sha256, document: ReceiptDocument): Promise<PlacedCheck[]> {
  const checks: PlacedCheck[] = [];
  for (const choice of document.choices) {
    for (const [part, found] of (await checkChoice(sha256, document.requestId, choice)).entries()) {
      const { index, replica } = choice;
      const place = { choice: index, part, ...(replica === undefined ? {} : { replica }) };
      for (const check of found) checks.push({ ...check, ...place });
    }
  }
  return checks;
}

/** Whether an answer is there from its first token on: a gateway that was started again knows only what followed. */
export function hasBeginning({ parts }: ReceiptedChoice): boolean {
  return (parts[0]?.asked.emitted.tokens ?? 0) === 0;
}

async function checkChoice(
  sha256: Sha256,
  requestId: string,
  { prompt, parts }: ReceiptedChoice,
): Promise<Check[][]> {
  const first = parts[0]?.asked;
  const checks: Check[][] = [];
  for (const [i, part] of parts.entries()) {
    const { asked } = part;
    const earlier = parts.slice(0, i);
    const isLast = i === parts.length - 1;
    const isPrompt = prompt === null || equalBytes(asked.promptHash, promptHash(sha256, prompt));
    checks.push([
      ...(await checkPart(sha256, part, isLast)),
      { name: "prompt", problem: isPrompt ? null : "it belongs to another prompt" },
      {
        name: "links",
        problem:
          requestProblem(asked, first!, requestId) ??
          emittedProblem(sha256, part, earlier) ??
          linkProblem(sha256, asked, part.textFrom === undefined ? earlier : earlier.slice(0, -1)),
      },
    ]);
  }
  return checks;
}

async function checkPart(sha256: Sha256, part: Part, isLast: boolean): Promise<Check[]> {
  const { receipt, checkpoint, asked, providerId } = part;
  if (receipt !== null) return checkReceipt(sha256, receipt, part, providerId);
  if (checkpoint !== null) {
    const isOwn =
      equalBytes(checkpoint.checkpoint.requestHash, requestHash(sha256, asked)) &&
      checkpoint.checkpoint.providerId === providerId;
    const isSigned = isOwn && (await isSignedCheckpoint(sha256, checkpoint));
    const problem = isSigned ? null : `its checkpoint is not signed by ${providerId}`;
    // Whoever dies in the middle leaves no receipt.
    if (!isLast || problem !== null) return [{ name: "signature", problem }];
  }
  return isLast ? [{ name: "signature", problem: "its provider gave no receipt" }] : [];
}

/** All attempts are at the same request. */
function requestProblem(asked: Asked, first: Asked, requestId: string): string | null {
  if (asked.requestId !== requestId) return `it belongs to request ${asked.requestId}`;
  if (asked.modelId !== first.modelId) return "the attempts used different models";
  const isSame =
    JSON.stringify(asked.sampling) === JSON.stringify(first.sampling) &&
    equalBytes(asked.options, first.options) &&
    equalBytes(asked.promptHash, first.promptHash);
  return isSame ? null : "the attempts were asked for different things";
}

/** Each attempt was told exactly what those before it had delivered. */
function emittedProblem(
  sha256: Sha256,
  { asked: { emitted }, textFrom }: Part,
  earlier: readonly Part[],
): string | null {
  const { tokenIds, text } = wholeAnswer(earlier);
  // Of a stream that moved the attempt before it delivered more meanwhile.
  const told = textFrom === undefined ? (tokenIds ?? []) : (tokenIds ?? []).slice(0, emitted.tokens);
  const due = emittedHashes(sha256, told, text.slice(0, textFrom));
  const isSame =
    emitted.tokens === due.tokens &&
    equalBytes(emitted.tokensHash, due.tokensHash) &&
    equalBytes(emitted.textHash, due.textHash);
  return isSame ? null : "it does not go on where the attempt before stopped";
}

/** The last attempt before it that signed something, which those behind that did not. */
function linkProblem(sha256: Sha256, { previous }: Asked, earlier: readonly Part[]): string | null {
  for (const { receipt, checkpoint, problem } of earlier.toReversed()) {
    const digests = [
      ...(receipt === null ? [] : [receiptDigest(sha256, receipt.receipt)]),
      ...(checkpoint === null ? [] : [checkpointDigest(sha256, checkpoint.checkpoint)]),
    ];
    if (previous !== null && digests.some((digest) => equalBytes(digest, previous))) return null;
    if (problem === null) return "it is not linked to the attempt before";
  }
  if (previous === null) return null;
  return `it is linked to ${toHex(previous).slice(0, 12)}…, which is no attempt before it`;
}
