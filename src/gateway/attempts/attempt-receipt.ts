/** What one attempt signs, gathered and checked while its answer passes by. */
import { sha256 } from "../../engine/sha256.ts";
import type { GenerateEvent } from "../../protocol/generate.ts";
import { type Asked, askedOf, requestHash, type RequestWithTerms } from "../../receipt/asked.ts";
import { checkReceipt } from "../../receipt/check.ts";
import { checkpointDigest, isSignedCheckpoint, type SignedCheckpoint } from "../../receipt/checkpoint.ts";
import type { Part } from "../../receipt/document.ts";
import type { ReceiptHistory } from "../../receipt/history.ts";
import { decodeReceipt, receiptDigest, type SignedReceipt } from "../../receipt/receipt.ts";
import { equalBytes } from "../../util/bytes.ts";
import { toSkeinError } from "../../util/errors.ts";

type CheckpointEvent = Extract<GenerateEvent, { type: "checkpoint" }>;

export class AttemptReceipt {
  readonly #asked: Asked;
  readonly #providerId: string;
  /** The checkpoint of the attempt before: both must have computed the same up to there. */
  readonly #before: SignedCheckpoint | null;
  #encoded: Uint8Array | null = null;
  #checkpoint: CheckpointEvent | null = null;
  #differs = false;
  /** Tokens that were on their way when it was cancelled: its provider signs for them. */
  readonly #late = { tokenIds: [] as number[], text: "" };
  #onSigned = (): void => undefined;

  constructor(request: RequestWithTerms, providerId: string, before: Part | null) {
    this.#asked = askedOf(sha256, request);
    this.#providerId = providerId;
    this.#before = before?.checkpoint ?? null;
  }

  checkpoint(event: CheckpointEvent): void {
    this.#checkpoint = event;
    const before = this.#before?.checkpoint;
    if (before?.position === event.position && !equalBytes(before.chain, event.chain)) this.#differs = true;
  }

  receipt(encoded: Uint8Array): void {
    this.#encoded = encoded;
  }

  /** What comes behind the cancellation. */
  late(event: GenerateEvent): void {
    if (event.type === "tokens") {
      for (const id of event.tokenIds) this.#late.tokenIds.push(id);
      this.#late.text += event.text;
    } else if (event.type === "receipt") {
      this.receipt(event.encoded);
      this.#onSigned();
    }
  }

  /**
   * Completes a part that was cancelled, once its receipt is there. One that is not right is no better than none: the provider may have
   * lost some of it on the way.
   */
  whenSigned(history: ReceiptHistory, part: Part, then: () => void): void {
    const take = async (): Promise<void> => {
      const tokenIds = part.tokenIds === null ? null : [...part.tokenIds, ...this.#late.tokenIds];
      const settled = await this.settle(history, tokenIds, part.text + this.#late.text);
      if (settled.problem !== null) return;
      Object.assign(part, settled);
      then();
    };
    this.#onSigned = () => void take().catch(() => undefined);
    if (this.#encoded !== null) this.#onSigned();
  }

  /** As far as it is: whoever goes on with the answer in another process has this of it. Its checkpoint is not checked. */
  unfinished(): Part {
    const signed = this.#checkpoint;
    return {
      ...this.#facts([], ""),
      receipt: null,
      checkpoint: signed === null ? null : this.#checkpointOf(signed),
      problem: "its gateway was stopped",
    };
  }

  /** Nobody waits for the rest of it. */
  abandoned(tokenIds: readonly number[] | null, text: string): Part {
    return { ...this.#facts(tokenIds, text), receipt: null, checkpoint: null, problem: "it was cancelled" };
  }

  /** Checks what came. Signatures of checkpoints only matter where there is no receipt. */
  async settle(history: ReceiptHistory, tokenIds: readonly number[] | null, text: string): Promise<Part> {
    const facts = this.#facts(tokenIds, text);
    if (this.#encoded === null) {
      const checkpoint = await this.#validCheckpoint();
      return { ...facts, receipt: null, checkpoint, problem: "its provider gave no receipt" };
    }
    let receipt: SignedReceipt;
    try {
      receipt = decodeReceipt(this.#encoded);
    } catch (error) {
      return { ...facts, receipt: null, checkpoint: null, problem: toSkeinError(error).message };
    }
    const checks = await checkReceipt(
      sha256,
      receipt,
      { asked: this.#asked, tokenIds, text },
      this.#providerId,
    );
    const wrong = checks.find(({ problem }) => problem !== null)?.problem ?? null;
    // Only what is signed says something about its provider's other receipts.
    const place =
      wrong === null ? history.add(receipt.receipt, receiptDigest(sha256, receipt.receipt)) : null;
    const seam = this.#differs ? "it goes on from other numbers than the attempt before had" : null;
    return { ...facts, receipt, checkpoint: null, problem: wrong ?? place ?? seam };
  }

  #facts(tokenIds: readonly number[] | null, text: string) {
    return { providerId: this.#providerId, asked: this.#asked, tokenIds, text };
  }

  #checkpointOf({ position, positions, chain, signature }: CheckpointEvent): SignedCheckpoint {
    const hash = requestHash(sha256, this.#asked);
    return {
      checkpoint: { requestHash: hash, providerId: this.#providerId, position, positions, chain },
      signature,
    };
  }

  async #validCheckpoint(): Promise<SignedCheckpoint | null> {
    if (this.#checkpoint === null) return null;
    const signed = this.#checkpointOf(this.#checkpoint);
    return (await isSignedCheckpoint(sha256, signed)) ? signed : null;
  }
}

/** What the next attempt's receipt refers to: the last one that signed something. */
export function linkOf(parts: readonly Part[]): Uint8Array | null {
  return parts.reduce<Uint8Array | null>((link, part) => linkTo(part) ?? link, null);
}

function linkTo(part: Part): Uint8Array | null {
  if (part.receipt !== null && part.problem === null) return receiptDigest(sha256, part.receipt.receipt);
  return part.checkpoint === null ? null : checkpointDigest(sha256, part.checkpoint.checkpoint);
}
