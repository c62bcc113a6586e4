/** vectors/receipts.json: requests, checkpoints and receipts with the words that are hashed, for other implementations. */
import { sha256 } from "../engine/sha256.ts";
import { createSigner } from "../network/identity.ts";
import { greedySampling } from "../protocol/generate.ts";
import { askedOf, requestHash, type RequestWithTerms, requestWords } from "../receipt/asked.ts";
import { checkpointDigest, checkpointWords, signCheckpoint } from "../receipt/checkpoint.ts";
import { choiceView, type Part } from "../receipt/document.ts";
import {
  encodeReceipt,
  noEvidence,
  type Receipt,
  receiptDigest,
  receiptWords,
  signReceipt,
} from "../receipt/receipt.ts";
import { textHash, tokensHash, zeroWord } from "../receipt/words.ts";
import { fee } from "../protocol/price.ts";
import { toHex, utf8 } from "../util/bytes.ts";

/** Secret bytes of the identity that signs: nobody's. */
const seed = sha256(utf8("skein receipt vectors"));
const hash = (name: string): Uint8Array => sha256(utf8(name));

const first: RequestWithTerms = {
  requestId: "0123456789abcdef01234567",
  modelId: `exact-sha256:${toHex(hash("model"))}`,
  prompt: { kind: "chat", messages: [{ role: "user", content: "Why is the sky blue? ☁" }] },
  emitted: { tokenIds: [], text: "" },
  sampling: {
    ...greedySampling,
    temperature: 0.7,
    topP: 0.95,
    presencePenalty: -0.5,
    logitBias: [[50, 2.5]],
    seed: 7,
  },
  stop: ["\n\n"],
  constraint: null,
  logprobs: null,
  outputTokensMax: 64,
  timeoutMs: 600_000,
  terms: {
    tier: "exact",
    price: { inputPerMillionTokens: 100_000_000n, outputPerMillionTokens: 500_000_000n, perSecond: 0n },
    contextTokensMax: 512,
    chargesPrompt: true,
    previous: null,
  },
};

const cases = [
  { name: "first attempt, interrupted", tokenIds: [17, 300, 70_000], text: "Because", finish: "failed" },
  { name: "second attempt, to the end", tokenIds: [5, 6], text: " light scatters.", finish: "stop" },
] as const;

export async function receiptVectors(): Promise<string> {
  const signer = await createSigner(seed);
  const entries: object[] = [];
  const requests = [first];
  let previousReceipt: Uint8Array = zeroWord;
  for (const [i, { name, tokenIds, text, finish }] of cases.entries()) {
    const request = requests[i]!;
    const asked = askedOf(sha256, request);
    const emittedTokens = request.emitted.tokenIds.length;
    const durationMs = 120 + i;
    const inputTokens = request.terms.chargesPrompt ? 9 : 0;
    const receipt: Receipt = {
      tier: request.terms.tier,
      requestHash: requestHash(sha256, asked),
      providerId: signer.providerId,
      sequence: 41 + i,
      previousReceipt,
      modelId: request.modelId,
      opsHash: hash("operations"),
      engine: "skein/0.1.0 exact",
      promptTokens: 9,
      promptTokensHash: tokensHash(sha256, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
      startPosition: emittedTokens,
      outputTokens: tokenIds.length,
      outputTokensHash: tokensHash(sha256, tokenIds),
      outputTextHash: textHash(sha256, text),
      finish,
      seed: request.sampling.seed,
      seedProof: new Uint8Array(0),
      execution: {
        positions: 9 + emittedTokens + tokenIds.length - (finish === "stop" ? 0 : 1),
        root: hash(`root ${i}`),
        chain: hash(`chain ${i}`),
      },
      durationMs,
      fee: fee(request.terms.price, { inputTokens, outputTokens: tokenIds.length, durationMs }),
      receivedMs: 1_800_000_000_000 + 1_000 * i,
      firstMs: 1_800_000_000_050 + 1_000 * i,
      lastMs: 1_800_000_000_120 + 1_000 * i,
      evidence: i === 0 ? noEvidence : { ...noEvidence, tee: utf8("quote") },
    };
    const signed = await signReceipt(sha256, signer, receipt);
    const checkpoint = await signCheckpoint(sha256, signer, {
      requestHash: receipt.requestHash,
      providerId: signer.providerId,
      position: 32,
      positions: 40,
      chain: hash(`checkpoint ${i}`),
    });
    const { providerId } = signer;
    const part: Part = { providerId, asked, tokenIds, text, receipt: signed, checkpoint, problem: null };
    entries.push({
      name,
      ...choiceView({ index: 0, prompt: request.prompt, parts: [part] }),
      requestWords: requestWords(sha256, asked).map(toHex),
      requestHash: toHex(receipt.requestHash),
      receiptWords: receiptWords(sha256, receipt).map(toHex),
      receiptDigest: toHex(receiptDigest(sha256, receipt)),
      receiptEncoded: toHex(encodeReceipt(signed)),
      checkpointWords: checkpointWords(checkpoint.checkpoint).map(toHex),
      checkpointDigest: toHex(checkpointDigest(sha256, checkpoint.checkpoint)),
    });
    previousReceipt = receiptDigest(sha256, receipt);
    const delivered = request.emitted;
    const emitted = { tokenIds: [...delivered.tokenIds, ...tokenIds], text: delivered.text + text };
    const terms = { ...request.terms, chargesPrompt: false, previous: previousReceipt };
    requests.push({ ...request, emitted, terms });
  }
  return `${JSON.stringify({ signerSeed: toHex(seed), cases: entries }, null, 2)}\n`;
}
