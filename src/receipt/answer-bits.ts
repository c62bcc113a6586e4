/** Everything of a signed answer that its request decides: what independent providers of the exact tier must have in common. */
import type { Sha256 } from "../exact/commitment/commitment.ts";
import { encodeCbor } from "../protocol/cbor.ts";
import { toHex } from "../util/bytes.ts";
import type { ReceiptedChoice } from "./document.ts";
import { wholeAnswer } from "./whole-answer.ts";

/**
 * A hash over tokens, text, end, and the root over all numbers that were computed for them, prompt and earlier attempts included.
 * Null: nobody signed for the end.
 */
export function answerBits(sha256: Sha256, { parts }: Pick<ReceiptedChoice, "parts">): string | null {
  const receipt = parts.at(-1)?.receipt?.receipt;
  if (receipt === undefined) return null;
  const { execution, finish } = receipt;
  const { tokenIds: tokens, text } = wholeAnswer(parts);
  const answer = {
    tokens,
    text,
    finish,
    execution: execution === null ? null : { positions: execution.positions, root: execution.root },
  };
  return toHex(sha256(encodeCbor(answer)));
}
