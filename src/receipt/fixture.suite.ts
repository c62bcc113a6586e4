/** Receipts for tests: real keys, arbitrary contents. */
import { createHash } from "node:crypto";
import fc from "fast-check";
import type { Sha256 } from "../exact/commitment/commitment.ts";
import { greedySampling, type Prompt } from "../protocol/generate.ts";
import { providerIdOf } from "../protocol/provider-id.ts";
import type { Signer } from "../protocol/signing.ts";
import { type Asked, askedOf, type RequestWithTerms, tiers } from "./asked.ts";
import type { SignedCheckpoint } from "./checkpoint.ts";
import type { ReceiptChain } from "./issue.ts";
import { finishes, type Receipt, receiptDigest, type SignedReceipt } from "./receipt.ts";
import { zeroWord } from "./words.ts";

export const sha256: Sha256 = (...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

export async function makeSigner(): Promise<Signer> {
  const { publicKey, privateKey } = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  return {
    providerId: providerIdOf(new Uint8Array(await crypto.subtle.exportKey("raw", publicKey))),
    sign: async (bytes) =>
      new Uint8Array(await crypto.subtle.sign("Ed25519", privateKey, new Uint8Array(bytes))),
  };
}

/** Receipts one behind the other, in memory. */
export function memoryChain(): ReceiptChain & { readonly issued: SignedReceipt[] } {
  const issued: SignedReceipt[] = [];
  return {
    issued,
    async append(make) {
      const last = issued.at(-1);
      const previous = last === undefined ? zeroWord : receiptDigest(sha256, last.receipt);
      const signed = await make({ sequence: issued.length + 1, previous });
      issued.push(signed);
      return signed;
    },
  };
}

export function requestOf(values: Partial<RequestWithTerms> = {}): RequestWithTerms {
  return {
    requestId: "0123456789abcdef01234567",
    modelId: `exact-sha256:${"5a".repeat(32)}`,
    prompt: { kind: "text", text: "Once upon a time" },
    emitted: { tokenIds: [], text: "" },
    sampling: { ...greedySampling, temperature: 0.7, seed: 7 },
    stop: [],
    constraint: null,
    logprobs: null,
    outputTokensMax: 100,
    timeoutMs: 600_000,
    terms: {
      tier: "exact",
      price: { inputPerMillionTokens: 100_000_000n, outputPerMillionTokens: 500_000_000n, perSecond: 1_000n },
      contextTokensMax: 512,
      chargesPrompt: true,
      previous: null,
    },
    ...values,
  };
}

/** As object literals are. */
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
const hash = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .filter((bytes) => bytes.some((byte) => byte !== 0));
const u32 = fc.nat(0xffff_ffff);
const count = fc.maxSafeNat();
const shortText = fc.string({ unit: "grapheme", maxLength: 60 });
const nullable = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null });
const fewBytes = fc.uint8Array({ maxLength: 40 });

export function receiptsOf(providerId: string): fc.Arbitrary<Receipt> {
  return record({
    tier: fc.constantFrom(...tiers),
    requestHash: hash,
    providerId: fc.constant(providerId),
    sequence: count.map((value) => Math.max(1, value)),
    previousReceipt: hash,
    modelId: shortText.map((text) => `m${text}`),
    opsHash: nullable(hash),
    engine: shortText,
    promptTokens: u32,
    promptTokensHash: nullable(hash),
    startPosition: u32,
    outputTokens: u32,
    outputTokensHash: nullable(hash),
    outputTextHash: hash,
    finish: fc.constantFrom(...finishes),
    seed: u32,
    seedProof: fewBytes,
    execution: nullable(
      record({ positions: fc.integer({ min: 1, max: 0xffff_ffff }), root: hash, chain: hash }),
    ),
    durationMs: u32,
    fee: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    receivedMs: count,
    firstMs: count,
    lastMs: count,
    evidence: record({ tee: fewBytes, toploc: fewBytes, difr: fewBytes }),
  });
}

const askeds: fc.Arbitrary<Asked> = record({
  prompt: fc.constantFrom<Prompt>(
    { kind: "text", text: "a" },
    { kind: "tokens", tokenIds: [1, 70_000] },
    { kind: "chat", messages: [{ role: "user", content: "ü", name: "x" }] },
  ),
  temperature: fc.double({ min: 0, max: 2, noNaN: true }),
  stop: fc.array(
    shortText.map((text) => `.${text}`),
    { maxLength: 3 },
  ),
  seed: u32,
  outputTokensMax: nullable(fc.integer({ min: 1, max: 2 ** 31 })),
  previous: nullable(hash),
  chargesPrompt: fc.boolean(),
}).map(({ prompt, temperature, stop, seed, outputTokensMax, previous, chargesPrompt }) => {
  const plain = requestOf();
  return askedOf(sha256, {
    ...plain,
    prompt,
    stop,
    outputTokensMax,
    sampling: { ...plain.sampling, temperature, seed },
    terms: { ...plain.terms, previous, chargesPrompt },
  });
});

/** A part whose receipt is signed by nobody. */
export const parts = record({
  providerId: shortText,
  asked: askeds,
  tokenIds: nullable(fc.array(u32, { maxLength: 5 })),
  text: shortText,
  receipt: nullable(
    record({
      receipt: receiptsOf("12D3KooWBKFg7ZB1TgTccxedPiRduY4tEpZvjwCyabzyWkdvCaDK"),
      signature: fc.uint8Array({ minLength: 64, maxLength: 64 }),
    }),
  ),
  checkpoint: nullable(
    record({
      checkpoint: record({
        requestHash: hash,
        providerId: shortText,
        position: u32,
        positions: u32,
        chain: hash,
      }),
      signature: fc.uint8Array({ minLength: 64, maxLength: 64 }),
    }) satisfies fc.Arbitrary<SignedCheckpoint>,
  ),
  problem: nullable(shortText),
});
