/** What can be said of a receipt without computing anything again: does it hold together, and does it say what was delivered? */
import type { Sha256 } from "../exact/commitment/commitment.ts";
import { equalBytes, toHex } from "../util/bytes.ts";
import { fee } from "../protocol/price.ts";
import { type Asked, requestHash } from "./asked.ts";
import { isSignedReceipt, type Receipt, type SignedReceipt } from "./receipt.ts";
import { textHash, tokensHash } from "./words.ts";

/** One thing that was looked at, and what is wrong with it; null: nothing. */
export interface Check {
  readonly name: string;
  readonly problem: string | null;
}

/** What came of one attempt, as whoever received it knows it. */
export interface Delivered {
  readonly asked: Asked;
  /** Null: the engine has no token ids. */
  readonly tokenIds: readonly number[] | null;
  readonly text: string;
}

/** @param providerId of whom the answer came */
export async function checkReceipt(
  sha256: Sha256,
  signed: SignedReceipt,
  { asked, tokenIds, text }: Delivered,
  providerId: string,
): Promise<Check[]> {
  const { receipt } = signed;
  const isSigned = receipt.providerId === providerId && (await isSignedReceipt(sha256, signed));
  return [
    { name: "signature", problem: isSigned ? null : `it is not signed by ${providerId}` },
    {
      name: "request",
      problem: same(receipt.requestHash, requestHash(sha256, asked), "it answers another request"),
    },
    { name: "model", problem: modelProblem(receipt, asked) },
    { name: "output", problem: outputProblem(sha256, receipt, tokenIds, text) },
    { name: "counts", problem: countsProblem(receipt, asked, tokenIds) },
    { name: "price", problem: feeProblem(receipt, asked) },
  ];
}

function modelProblem(receipt: Receipt, asked: Asked): string | null {
  if (receipt.modelId !== asked.modelId) return `it names the model ${receipt.modelId}`;
  if (receipt.tier !== asked.tier) return `its tier is ${receipt.tier}, not ${asked.tier}`;
  if (receipt.seed !== asked.sampling.seed) return `its seed is ${receipt.seed}`;
  if (receipt.tier !== "exact") return null;
  return receipt.opsHash === null ? "it does not say which operations were used" : null;
}

function outputProblem(
  sha256: Sha256,
  receipt: Receipt,
  tokenIds: readonly number[] | null,
  text: string,
): string | null {
  const textProblem = same(
    receipt.outputTextHash,
    textHash(sha256, text),
    "its text is not the one that was delivered",
  );
  if (textProblem !== null) return textProblem;
  if (tokenIds === null || receipt.outputTokensHash === null) {
    return tokenIds === null || tokenIds.length === 0 ? null : "it does not commit to the tokens";
  }
  return same(
    receipt.outputTokensHash,
    tokensHash(sha256, tokenIds),
    "its tokens are not those that were delivered",
  );
}

function countsProblem(receipt: Receipt, asked: Asked, tokenIds: readonly number[] | null): string | null {
  if (receipt.startPosition !== asked.emitted.tokens) return `it starts at token ${receipt.startPosition}`;
  if (tokenIds !== null && receipt.outputTokens !== tokenIds.length) {
    return `it counts ${receipt.outputTokens} tokens where ${tokenIds.length} came`;
  }
  // Without them nobody could compute it again.
  if (tokenIds === null && receipt.tier === "exact" && receipt.outputTokens > 0)
    return "its token ids did not come";
  const total = receipt.startPosition + receipt.outputTokens;
  if (asked.outputTokensMax !== null && total > asked.outputTokensMax)
    return "it counts more tokens than asked";
  if (receipt.firstMs > receipt.lastMs || receipt.receivedMs > receipt.firstMs)
    return "its times are not in order";
  return executionProblem(receipt, total);
}

/** All that was read must be committed to; the token that was chosen last need not be read any more. */
function executionProblem(
  { tier, execution, promptTokens, outputTokens }: Receipt,
  total: number,
): string | null {
  if (tier !== "exact") return null;
  if (execution === null) return outputTokens === 0 ? null : "it does not commit to the computation";
  const most = promptTokens + total;
  if (execution.positions === most || (total > 0 && execution.positions === most - 1)) return null;
  return `it commits to ${execution.positions} positions of ${most}`;
}

function feeProblem(receipt: Receipt, { price, chargesPrompt }: Asked): string | null {
  const { outputTokens, durationMs } = receipt;
  const inputTokens = chargesPrompt ? receipt.promptTokens : 0;
  const due = fee(price, { inputTokens, outputTokens, durationMs });
  return receipt.fee === due ? null : `its fee is ${receipt.fee} nanoUSD where ${due} are due`;
}

function same(a: Uint8Array, b: Uint8Array, problem: string): string | null {
  return equalBytes(a, b) ? null : `${problem} (${toHex(a).slice(0, 12)}…, not ${toHex(b).slice(0, 12)}…)`;
}
