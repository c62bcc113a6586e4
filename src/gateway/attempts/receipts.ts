/** Receipts of answers: asked for, kept for a while, shown to whoever asked the question. */
import { sha256 } from "../../engine/sha256.ts";
import type { GenerateRequest } from "../../protocol/generate.ts";
import { isProviderId } from "../../protocol/provider-id.ts";
import type { RequestWithTerms } from "../../receipt/asked.ts";
import {
  choiceView,
  type Part,
  type ReceiptDocumentView,
  type ReceiptedChoice,
  type ReceiptedChoiceView,
} from "../../receipt/document.ts";
import { ReceiptHistory } from "../../receipt/history.ts";
import { receiptDigest } from "../../receipt/receipt.ts";
import type { Store } from "../../store/port.ts";
import { valueBytesMax } from "../../store/port.ts";
import type { Clock } from "../../util/clock.ts";
import { toHex, utf8 } from "../../util/bytes.ts";
import { toSkeinError } from "../../util/errors.ts";
import type { Logger } from "../../util/log.ts";
import { AttemptReceipt } from "./attempt-receipt.ts";

export interface ReceiptOptions {
  /** How long receipts, with prompts and answers, are kept; 0: not at all. */
  readonly retentionMs: number;
}

/** From an answer's end to its receipt: a signature and a write to the provider's disk. */
export const receiptTimeoutMs = 2_000;
/** Providers whose latest receipts are remembered. */
const historiesMax = 10_000;
/** Writes that have not ended; of more, receipts are lost rather than memory. */
const writingMax = 1_000;
/** Digits of a choice's number in keys, so that they are in order. */
const choiceDigits = 4;

export class Receipts {
  readonly #deps: { readonly store: Store; readonly clock: Clock; readonly log: Logger };
  readonly #options: ReceiptOptions;
  readonly #histories = new Map<string, ReceiptHistory>();
  readonly #writing = new Map<string, Promise<void>[]>();

  constructor(deps: { store: Store; clock: Clock; log: Logger }, options: ReceiptOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** Null: this one cannot sign. */
  open(request: GenerateRequest, providerId: string, before: Part | undefined): AttemptReceipt | null {
    if (request.terms === undefined || !isProviderId(providerId)) return null;
    return new AttemptReceipt(request as RequestWithTerms, providerId, before ?? null);
  }

  historyOf(providerId: string): ReceiptHistory {
    const history = this.#histories.get(providerId) ?? new ReceiptHistory();
    this.#histories.delete(providerId);
    this.#histories.set(providerId, history);
    if (this.#histories.size > historiesMax) this.#histories.delete(this.#histories.keys().next().value!);
    return history;
  }

  /** Writes in the background: an answer's end does not wait for the disk. */
  keep(owner: string, requestId: string, choice: ReceiptedChoice): void {
    if (this.#options.retentionMs === 0 || choice.parts.length === 0) return;
    if (this.#writing.size >= writingMax)
      return this.#deps.log.warn({}, "a receipt is not kept: the store is slow");
    const prefix = prefixOf(owner, requestId);
    const written = this.#write(prefix, choice).catch((error: unknown) => {
      this.#deps.log.warn({ reason: toSkeinError(error).message }, "a receipt is not kept");
    });
    const writes = [...(this.#writing.get(prefix) ?? []), written];
    this.#writing.set(prefix, writes);
    void written.then(() => {
      if (this.#writing.get(prefix) === writes) this.#writing.delete(prefix);
    });
  }

  /** Null: there is none, or it is somebody else's. */
  async view(owner: string, requestId: string): Promise<ReceiptDocumentView | null> {
    // Also keeps what is no part of a key out of one.
    if (!/^[0-9a-f]{1,64}$/.test(requestId)) return null;
    const prefix = prefixOf(owner, requestId);
    await Promise.all(this.#writing.get(prefix) ?? []);
    const records = await this.#deps.store.scan({ prefix, limit: 1_000 });
    if (records.length === 0) return null;
    const choices = records.map(
      ({ value }) => JSON.parse(new TextDecoder().decode(value)) as ReceiptedChoiceView,
    );
    return { object: "receipt", version: 1, request_id: requestId, choices };
  }

  async #write(prefix: string, choice: ReceiptedChoice): Promise<void> {
    const whole = utf8(JSON.stringify(choiceView(choice)));
    const value =
      whole.length <= valueBytesMax ? whole : utf8(JSON.stringify(choiceView({ ...choice, prompt: null })));
    await this.#deps.store.commit({
      changes: [
        {
          type: "put",
          key: prefix + keyOf(choice),
          value,
          expiresAtMs: this.#deps.clock.nowMs() + this.#options.retentionMs,
        },
      ],
    });
  }
}

/** Replicas of a choice stand together. */
function keyOf({ index, replica }: ReceiptedChoice): string {
  const choice = String(index).padStart(choiceDigits, "0");
  return replica === undefined ? choice : `${choice}.${replica}`;
}

function prefixOf(owner: string, requestId: string): string {
  return `receipt/${owner === "" ? "all" : owner}/${requestId}/`;
}

/** What answers call their receipt by; null: the last attempt has no valid one. */
export function receiptName(parts: readonly Part[]): string | null {
  const last = parts.at(-1);
  if (last === undefined || last.receipt === null || last.problem !== null) return null;
  return toHex(receiptDigest(sha256, last.receipt.receipt));
}
