/** A receipt: what a provider signs about one attempt at an answer. Its encoding, its digest, its signature. */
import { z } from "zod";
import type { Sha256 } from "../exact/commitment/commitment.ts";
import { decodeCbor, encodeCbor } from "../protocol/cbor.ts";
import { receiptBytesMax } from "../protocol/messages.ts";
import type { TrustTier } from "../protocol/offer.ts";
import { publicKeyOf } from "../protocol/provider-id.ts";
import { type Signer, verifySignature } from "../protocol/signing.ts";
import { SkeinError } from "../util/errors.ts";
import { tiers } from "./asked.ts";
import { digestOf, domainWord, hashWord, numberWord, textHash, wordBytes, zeroWord } from "./words.ts";

/** How an attempt ended; `cancelled` and `failed` ones are charged for what they delivered. */
export type ReceiptFinish = "stop" | "length" | "cancelled" | "failed";

/** Commitments of the exact tier (docs/EXACT.md) to all positions, the prompt's and those of earlier attempts included. */
export interface Execution {
  /** Positions that were read: rows of the tree. */
  readonly positions: number;
  readonly root: Uint8Array;
  /** The chain's head behind the last of them. */
  readonly chain: Uint8Array;
}

/** Room for other kinds of evidence; empty where there is none. */
export interface Evidence {
  readonly tee: Uint8Array;
  readonly toploc: Uint8Array;
  readonly difr: Uint8Array;
}

export interface Receipt {
  readonly tier: TrustTier;
  readonly requestHash: Uint8Array;
  readonly providerId: string;
  /** Counts the provider's receipts from 1, without gaps. */
  readonly sequence: number;
  /** Digest of the provider's receipt before this one; zeros for the first. */
  readonly previousReceipt: Uint8Array;
  readonly modelId: string;
  /** Of the operations of the exact tier; null in other tiers. */
  readonly opsHash: Uint8Array | null;
  /** Kind and version of what computed. */
  readonly engine: string;
  readonly promptTokens: number;
  /** Over the token ids that the model read; null where the engine has none. */
  readonly promptTokensHash: Uint8Array | null;
  /** Tokens of the answer that earlier attempts delivered. */
  readonly startPosition: number;
  /** Tokens that this attempt delivered. */
  readonly outputTokens: number;
  /** Over their ids; null where the engine has none. */
  readonly outputTokensHash: Uint8Array | null;
  /** Over the text that this attempt delivered. */
  readonly outputTextHash: Uint8Array;
  readonly finish: ReceiptFinish;
  readonly seed: number;
  /** Proof that the seed was not chosen; empty: it came with the request. */
  readonly seedProof: Uint8Array;
  readonly execution: Execution | null;
  /** Engine time that is charged, in milliseconds. */
  readonly durationMs: number;
  /** nanoUSD. */
  readonly fee: bigint;
  /** Claims: milliseconds since 1970. */
  readonly receivedMs: number;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly evidence: Evidence;
}

export interface SignedReceipt {
  readonly receipt: Receipt;
  readonly signature: Uint8Array;
}

const receiptVersion = 1;
const evidenceBytesMax = 4 * 1024;
export const noEvidence: Evidence = {
  tee: new Uint8Array(0),
  toploc: new Uint8Array(0),
  difr: new Uint8Array(0),
};
export const finishes: readonly ReceiptFinish[] = ["stop", "length", "cancelled", "failed"];

const domain = domainWord("skein-receipt-v1");

/** What is signed, and what other receipts call it by. The layout is in docs/PROTOCOL.md, "Receipts". */
export function receiptDigest(sha256: Sha256, receipt: Receipt): Uint8Array {
  return digestOf(sha256, receiptWords(sha256, receipt));
}

export function receiptWords(sha256: Sha256, receipt: Receipt): Uint8Array[] {
  const { execution, evidence } = receipt;
  const bytesWord = (bytes: Uint8Array): Uint8Array => (bytes.length === 0 ? zeroWord : sha256(bytes));
  return [
    domain,
    numberWord(tiers.indexOf(receipt.tier)),
    hashWord(receipt.requestHash),
    publicKeyOf(receipt.providerId),
    numberWord(receipt.sequence),
    hashWord(receipt.previousReceipt),
    textHash(sha256, receipt.modelId),
    hashWord(receipt.opsHash),
    textHash(sha256, receipt.engine),
    numberWord(receipt.promptTokens),
    hashWord(receipt.promptTokensHash),
    numberWord(receipt.startPosition),
    numberWord(receipt.outputTokens),
    hashWord(receipt.outputTokensHash),
    hashWord(receipt.outputTextHash),
    numberWord(finishes.indexOf(receipt.finish)),
    numberWord(receipt.seed),
    bytesWord(receipt.seedProof),
    numberWord(execution?.positions ?? 0),
    hashWord(execution?.root ?? null),
    hashWord(execution?.chain ?? null),
    numberWord(receipt.durationMs),
    numberWord(receipt.fee),
    numberWord(receipt.receivedMs),
    numberWord(receipt.firstMs),
    numberWord(receipt.lastMs),
    bytesWord(evidence.tee),
    bytesWord(evidence.toploc),
    bytesWord(evidence.difr),
  ];
}

export async function signReceipt(sha256: Sha256, signer: Signer, receipt: Receipt): Promise<SignedReceipt> {
  return { receipt, signature: await signer.sign(new Uint8Array(receiptDigest(sha256, receipt))) };
}

/** Whether the provider that it names has signed it. */
export function isSignedReceipt(sha256: Sha256, { receipt, signature }: SignedReceipt): Promise<boolean> {
  return verifySignature(receipt.providerId, new Uint8Array(receiptDigest(sha256, receipt)), signature);
}

const u32 = z.number().int().min(0).max(0xffff_ffff);
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const bytes = z.instanceof(Uint8Array);
const hash = bytes.refine((value) => value.length === wordBytes, "not a hash");
/** Where there is none, null says so: zeros would be signed as the same. */
const hashOrNull = hash.refine((value) => value.some((byte) => byte !== 0), "no hash").nullable();
const evidenceBytes = bytes.refine((value) => value.length <= evidenceBytesMax, "too long");
const amount = z
  .union([count, z.bigint().min(0n)])
  .transform(BigInt)
  .refine((value) => value < 1n << 64n, "too large");

/** In the order of `Receipt`; a list, so that 25 names do not travel with every answer. */
const wireSchema = z.tuple([
  z.literal(receiptVersion),
  z
    .number()
    .int()
    .min(0)
    .max(tiers.length - 1),
  hash,
  z.string().min(1).max(64),
  count.min(1),
  hash,
  z.string().min(1).max(200),
  hashOrNull,
  z.string().max(100),
  u32,
  hashOrNull,
  u32,
  u32,
  hashOrNull,
  hash,
  z
    .number()
    .int()
    .min(0)
    .max(finishes.length - 1),
  u32,
  evidenceBytes,
  z.tuple([u32.min(1), hash, hash]).nullable(),
  u32,
  amount,
  count,
  count,
  count,
  z.tuple([evidenceBytes, evidenceBytes, evidenceBytes]),
  bytes.refine((value) => value.length === 64, "not a signature"),
]);

/** Canonical CBOR. */
export function encodeReceipt({ receipt, signature }: SignedReceipt): Uint8Array<ArrayBuffer> {
  const { execution, evidence } = receipt;
  return encodeCbor([
    receiptVersion,
    tiers.indexOf(receipt.tier),
    receipt.requestHash,
    receipt.providerId,
    receipt.sequence,
    receipt.previousReceipt,
    receipt.modelId,
    receipt.opsHash,
    receipt.engine,
    receipt.promptTokens,
    receipt.promptTokensHash,
    receipt.startPosition,
    receipt.outputTokens,
    receipt.outputTokensHash,
    receipt.outputTextHash,
    finishes.indexOf(receipt.finish),
    receipt.seed,
    receipt.seedProof,
    execution === null ? null : [execution.positions, execution.root, execution.chain],
    receipt.durationMs,
    receipt.fee,
    receipt.receivedMs,
    receipt.firstMs,
    receipt.lastMs,
    [evidence.tee, evidence.toploc, evidence.difr],
    signature,
  ]);
}

/** @throws SkeinError `protocol_violation` for anything that `encodeReceipt` does not produce */
export function decodeReceipt(encoded: Uint8Array): SignedReceipt {
  if (encoded.length > receiptBytesMax) {
    throw new SkeinError("protocol_violation", `A receipt has ${encoded.length} bytes.`);
  }
  const wire = decodeCbor(wireSchema, encoded, "receipt");
  const execution = wire[18];
  const [tee, toploc, difr] = wire[24];
  const receipt: Receipt = {
    tier: tiers[wire[1]]!,
    requestHash: wire[2],
    providerId: wire[3],
    sequence: wire[4],
    previousReceipt: wire[5],
    modelId: wire[6],
    opsHash: wire[7],
    engine: wire[8],
    promptTokens: wire[9],
    promptTokensHash: wire[10],
    startPosition: wire[11],
    outputTokens: wire[12],
    outputTokensHash: wire[13],
    outputTextHash: wire[14],
    finish: finishes[wire[15]]!,
    seed: wire[16],
    seedProof: wire[17],
    execution:
      execution === null ? null : { positions: execution[0], root: execution[1], chain: execution[2] },
    durationMs: wire[19],
    fee: wire[20],
    receivedMs: wire[21],
    firstMs: wire[22],
    lastMs: wire[23],
    evidence: { tee, toploc, difr },
  };
  // Also refuses names that are no keys.
  publicKeyOf(receipt.providerId);
  return { receipt, signature: wire[25] };
}
