/** The provider's receipts in its store: each is on the disk, with its place in the order, before it leaves. */
import { z } from "zod";
import { decodeCbor, encodeCbor } from "../protocol/cbor.ts";
import type { ReceiptChain, ReceiptPlace } from "../receipt/issue.ts";
import { decodeReceipt, encodeReceipt, receiptDigest, type SignedReceipt } from "../receipt/receipt.ts";
import { wordBytes, zeroWord } from "../receipt/words.ts";
import type { Sha256 } from "../exact/commitment/commitment.ts";
import type { Store } from "../store/port.ts";
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";

const headKey = "receipts/head";
/** How long a receipt is kept for whoever asks what it said. */
const keptMs: number = 30 * 24 * 3600_000;
/** Digits of a sequence number in keys, so that they are in order. */
const sequenceDigits = 16;

const headSchema = z.strictObject({
  sequence: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  digest: z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length === wordBytes),
});
type Head = z.infer<typeof headSchema>;

interface Made {
  readonly signed: SignedReceipt;
  readonly written: Promise<boolean>;
}

export interface ReceiptJournal extends ReceiptChain {
  /** One of those that are kept; null: it is not. */
  find(sequence: number): Promise<SignedReceipt | null>;
}

export function createReceiptJournal(deps: { store: Store; clock: Clock; sha256: Sha256 }): ReceiptJournal {
  const { store, clock, sha256 } = deps;
  /** Undefined: not read yet, or a write failed. */
  let head: Head | null | undefined;
  let turn: Promise<unknown> = Promise.resolve();

  async function readHead(): Promise<Head | null> {
    const bytes = await store.get(headKey);
    return bytes === null ? null : decodeCbor(headSchema, bytes, "head of the receipts");
  }

  /** One after the other: each needs the digest of the one before. The disk is not waited for here. */
  async function next(make: (place: ReceiptPlace) => Promise<SignedReceipt>): Promise<Made> {
    head ??= await readHead();
    const before: Head | null = head;
    const sequence = (before?.sequence ?? 0) + 1;
    const signed = await make({ sequence, previous: before?.digest ?? zeroWord });
    const after: Head = { sequence, digest: receiptDigest(sha256, signed.receipt) };
    head = after;
    const written = store.commit({
      // What another process has written in between, or what was lost, must not be continued.
      conditions: [{ key: headKey, value: before === null ? null : encodeCbor(before) }],
      changes: [
        { type: "put", key: headKey, value: encodeCbor(after), expiresAtMs: null },
        {
          type: "put",
          key: keyOf(sequence),
          value: encodeReceipt(signed),
          expiresAtMs: clock.nowMs() + keptMs,
        },
      ],
    });
    written.catch(() => undefined);
    return { signed, written };
  }

  return {
    async find(sequence) {
      const encoded = await store.get(keyOf(sequence));
      return encoded === null ? null : decodeReceipt(encoded);
    },
    async append(make) {
      const before = turn;
      const { promise: made, resolve, reject } = Promise.withResolvers<Made>();
      turn = made.catch(() => undefined);
      try {
        await before;
        await next(make).then(resolve, reject);
        const { signed, written } = await made;
        if (await written) return signed;
      } catch (error) {
        head = undefined;
        throw error;
      }
      head = undefined;
      throw new SkeinError("store_failed", "Another process writes receipts of this provider.", {
        hint: "Run one process for each provider's folder.",
      });
    },
  };
}

function keyOf(sequence: number): string {
  return `receipts/issued/${String(sequence).padStart(sequenceDigits, "0")}`;
}
