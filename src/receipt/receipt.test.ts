import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { equalBytes, toHex } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";
import { askedOf, requestHash, type RequestWithTerms } from "./asked.ts";
import { isSignedCheckpoint, signCheckpoint } from "./checkpoint.ts";
import { documentView, parseDocument, type ReceiptDocument } from "./document.ts";
import { makeSigner, parts, receiptsOf, requestOf, sha256 } from "./fixture.suite.ts";
import {
  decodeReceipt,
  encodeReceipt,
  isSignedReceipt,
  noEvidence,
  type Receipt,
  receiptDigest,
  signReceipt,
} from "./receipt.ts";

const signer = await makeSigner();
const stranger = await makeSigner();
const full = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);

/** As large as the exact tier's get. */
const large: Receipt = {
  tier: "exact",
  requestHash: full(1),
  providerId: signer.providerId,
  sequence: Number.MAX_SAFE_INTEGER,
  previousReceipt: full(2),
  modelId: `exact-sha256:${"f0".repeat(32)}`,
  opsHash: full(3),
  engine: "skein/10.100.1000 exact",
  promptTokens: 65_535,
  promptTokensHash: full(4),
  startPosition: 65_535,
  outputTokens: 65_535,
  outputTokensHash: full(5),
  outputTextHash: full(6),
  finish: "cancelled",
  seed: 0xffff_ffff,
  seedProof: new Uint8Array(0),
  execution: { positions: 131_070, root: full(7), chain: full(8) },
  durationMs: 0xffff_ffff,
  fee: 2n ** 64n - 1n,
  receivedMs: 2_000_000_000_000,
  firstMs: 2_000_000_000_000,
  lastMs: 2_000_000_000_000,
  evidence: noEvidence,
};

test("a receipt of the exact tier has at most 700 bytes", async () => {
  const encoded = encodeReceipt(await signReceipt(sha256, signer, large));
  assert.ok(encoded.length <= 700, `${encoded.length} bytes`);
});

test("what is encoded is decoded as the same, and only what is signed is taken for signed", async () => {
  await fc.assert(
    fc.asyncProperty(receiptsOf(signer.providerId), async (receipt) => {
      const signed = await signReceipt(sha256, signer, receipt);
      const decoded = decodeReceipt(encodeReceipt(signed));
      assert.deepEqual(decoded, signed);
      assert.ok(await isSignedReceipt(sha256, decoded));
      const other = { ...signed, receipt: { ...receipt, providerId: stranger.providerId } };
      assert.equal(await isSignedReceipt(sha256, other), false);
    }),
    { numRuns: 60 },
  );
});

test("no receipt verifies with any bit of it altered", async () => {
  const signed = await signReceipt(sha256, signer, large);
  const encoded = encodeReceipt(signed);
  for (let bit = 0; bit < 8 * encoded.length; bit++) {
    const altered = encoded.slice();
    altered[bit >> 3]! ^= 1 << (bit & 7);
    const decoded = decodeOrNull(altered);
    if (decoded !== null) assert.equal(await isSignedReceipt(sha256, decoded), false, `bit ${bit}`);
  }
});

test("nothing that is not a receipt is decoded, and nothing but a clear error comes of it", async () => {
  const encoded = encodeReceipt(await signReceipt(sha256, signer, large));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(encoded.length - 1), fc.nat(255)), { maxLength: 6 }),
      fc.nat(3),
      (edits, cut) => {
        const altered = encoded.slice(0, encoded.length - cut);
        for (const [at, value] of edits) if (at < altered.length) altered[at] = value;
        const decoded = decodeOrNull(altered);
        // One receipt has one encoding.
        if (decoded !== null) assert.ok(equalBytes(encodeReceipt(decoded), altered));
      },
    ),
    { numRuns: 700 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => assert.equal(decodeOrNull(bytes), null)),
    { numRuns: 300 },
  );
});

function decodeOrNull(bytes: Uint8Array) {
  try {
    return decodeReceipt(bytes);
  } catch (error) {
    assert.ok(error instanceof SkeinError && error.code === "protocol_violation", String(error));
    return null;
  }
}

test("everything that was asked has its part in the request's hash", () => {
  const plain = requestOf();
  const { terms, sampling } = plain;
  const { price } = terms;
  const others: RequestWithTerms[] = [
    plain,
    { ...plain, requestId: "f" },
    { ...plain, modelId: "m" },
    { ...plain, prompt: { kind: "text", text: "Once upon a time " } },
    { ...plain, prompt: { kind: "chat", messages: [{ role: "user", content: "Once upon a time" }] } },
    { ...plain, outputTokensMax: 99 },
    { ...plain, outputTokensMax: null },
    { ...plain, stop: ["a"] },
    { ...plain, timeoutMs: 1 },
    { ...plain, emitted: { tokenIds: [1], text: "" } },
    { ...plain, emitted: { tokenIds: [], text: "a" } },
    ...(["temperature", "topP", "minP", "presencePenalty", "frequencyPenalty"] as const).map((key) => ({
      ...plain,
      sampling: { ...sampling, [key]: 0.123 },
    })),
    { ...plain, sampling: { ...sampling, topK: 9 } },
    { ...plain, sampling: { ...sampling, seed: 9 } },
    { ...plain, sampling: { ...sampling, logitBias: [[1, 2.5]] } },
    { ...plain, terms: { ...terms, tier: "float" } },
    { ...plain, terms: { ...terms, contextTokensMax: 1 } },
    { ...plain, terms: { ...terms, chargesPrompt: false } },
    { ...plain, terms: { ...terms, previous: full(1) } },
    ...(["inputPerMillionTokens", "outputPerMillionTokens", "perSecond"] as const).map((key) => ({
      ...plain,
      terms: { ...terms, price: { ...price, [key]: 3n } },
    })),
  ];
  const hashes = others.map((request) => toHex(requestHash(sha256, askedOf(sha256, request))));
  assert.equal(new Set(hashes).size, others.length);
  // What tells API keys apart has none: receipts are shown to others.
  assert.deepEqual(askedOf(sha256, { ...plain, cacheSalt: "a" }), askedOf(sha256, plain));
});

test("every field of a receipt has its part in what is signed", () => {
  const digest = (receipt: Receipt): string => toHex(receiptDigest(sha256, receipt));
  const changed: Partial<Receipt>[] = [
    { tier: "float" },
    { providerId: stranger.providerId },
    { modelId: "m" },
    { opsHash: null },
    { engine: "" },
    { promptTokensHash: null },
    { outputTokensHash: null },
    { finish: "stop" },
    { seedProof: full(1) },
    { execution: null },
    { execution: { ...large.execution!, positions: 1 } },
    { execution: { ...large.execution!, root: full(9) } },
    { execution: { ...large.execution!, chain: full(9) } },
    { fee: 1n },
    { evidence: { ...noEvidence, tee: full(1) } },
    { evidence: { ...noEvidence, toploc: full(1) } },
    { evidence: { ...noEvidence, difr: full(1) } },
    ...(["requestHash", "previousReceipt", "outputTextHash"] as const).map((key) => ({ [key]: full(9) })),
    ...(
      [
        "sequence",
        "promptTokens",
        "startPosition",
        "outputTokens",
        "seed",
        "durationMs",
        "receivedMs",
        "firstMs",
        "lastMs",
      ] as const
    ).map((key) => ({ [key]: 5 })),
  ];
  const digests = [large, ...changed.map((values) => ({ ...large, ...values }))].map(digest);
  assert.equal(new Set(digests).size, digests.length);
});

test("a checkpoint is bound to its request, its provider, its place and its numbers", async () => {
  const { providerId } = signer;
  const checkpoint = { requestHash: full(1), providerId, position: 32, positions: 40, chain: full(2) };
  const signed = await signCheckpoint(sha256, signer, checkpoint);
  assert.ok(await isSignedCheckpoint(sha256, signed));
  for (const change of [
    { requestHash: full(3) },
    { providerId: stranger.providerId },
    { position: 31 },
    { positions: 41 },
    { chain: full(3) },
  ]) {
    const altered = { ...signed, checkpoint: { ...checkpoint, ...change } };
    assert.equal(await isSignedCheckpoint(sha256, altered), false, JSON.stringify(Object.keys(change)));
  }
});

const documents: fc.Arbitrary<ReceiptDocument> = fc
  .tuple(fc.stringMatching(/^[0-9a-f]{24}$/), fc.array(fc.array(parts, { maxLength: 2 }), { maxLength: 2 }))
  .map(([requestId, choices]) => ({
    requestId,
    choices: choices.map((each, index) => ({
      index,
      prompt: index === 0 ? { kind: "text", text: "a" } : null,
      parts: each,
    })),
  }));

test("a document is read as it was written", () => {
  fc.assert(
    fc.property(documents, (document) => {
      const json: unknown = JSON.parse(JSON.stringify(documentView(document)));
      assert.deepEqual(parseDocument(json), document);
    }),
    { numRuns: 100 },
  );
});

test("whatever is no document is refused with a clear error", () => {
  const valid = { object: "receipt", version: 1, request_id: "a", choices: [] };
  assert.deepEqual(parseDocument(valid), { requestId: "a", choices: [] });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.jsonValue(),
        fc.jsonValue().map((choices) => ({ ...valid, choices: [choices] })),
      ),
      (json) => {
        assert.throws(
          () => parseDocument(json),
          (error) => error instanceof SkeinError && error.code === "invalid_request",
        );
      },
    ),
    { numRuns: 300 },
  );
});
