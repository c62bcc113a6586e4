import assert from "node:assert/strict";
import { test } from "node:test";
import { chainHead, merkleRoot } from "../exact/commitment/commitment.ts";
import type { GenerateEvent } from "../protocol/generate.ts";
import { systemClock } from "../util/clock.ts";
import { concatBytes } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";
import { askedOf, type RequestWithTerms, requestHash } from "./asked.ts";
import { checkReceipt, type Delivered } from "./check.ts";
import { checkDocument } from "./check-document.ts";
import { checkpointDigest, isSignedCheckpoint } from "./checkpoint.ts";
import type { Part, ReceiptDocument } from "./document.ts";
import { makeSigner, memoryChain, requestOf, sha256 } from "./fixture.suite.ts";
import { ReceiptHistory } from "./history.ts";
import { type IssueDeps, withReceipt } from "./issue.ts";
import { decodeReceipt, type Receipt, receiptDigest, signReceipt } from "./receipt.ts";
import { tokensHash } from "./words.ts";

const signer = await makeSigner();
const issuer = { engine: "test 1", opsHash: new Uint8Array(32).fill(9) };
const promptTokenIds = [11, 12, 13, 14];
const timings = { queueMs: 1, prefillMs: 20, decodeMs: 30 };
const row = (position: number): Uint8Array => sha256(Uint8Array.of(position));
const idAt = (position: number): number => 100 + position;

/** What an exact engine sends: rows of everything that was read since the last event. */
async function* events(
  request: RequestWithTerms,
  { total, byModel = false, failAfter = total + 1 }: { total: number; byModel?: boolean; failAfter?: number },
): AsyncGenerator<GenerateEvent> {
  yield { type: "start", promptTokens: 4, cachedTokens: 0, promptTokenIds };
  const start = request.emitted.tokenIds.length;
  let told = 0;
  const rowsTo = (end: number): Uint8Array => {
    const rows = concatBytes(Array.from({ length: end - told }, (_, i) => row(told + i)));
    told = end;
    return rows;
  };
  for (let position = start; position < total; position++) {
    if (position - start === failAfter) throw new SkeinError("engine_failed", "broken");
    const text = ` ${position}`;
    yield {
      type: "tokens",
      position,
      tokenIds: [idAt(position)],
      tokenCount: 1,
      text,
      rows: rowsTo(4 + position),
    };
  }
  const end = { type: "end", promptTokens: 4, outputTokens: total, timings } as const;
  if (byModel) yield { ...end, finishReason: "stop", rows: rowsTo(4 + total) };
  else yield { ...end, finishReason: "length" };
}

interface Gathered {
  readonly part: Part;
  readonly types: readonly string[];
  readonly error: unknown;
}

async function gather(
  deps: IssueDeps,
  request: RequestWithTerms,
  how: Parameters<typeof events>[1],
): Promise<Gathered> {
  const asked = askedOf(sha256, request);
  const tokenIds: number[] = [];
  let text = "";
  let receipt: Part["receipt"] = null;
  let signed: Part["checkpoint"] = null;
  const types: string[] = [];
  let error: unknown = null;
  try {
    for await (const event of withReceipt(deps, issuer, request, events(request, how))) {
      types.push(event.type);
      assert.ok(
        !("rows" in event) && !("promptTokenIds" in event),
        "what is only for the receipt stays inside",
      );
      if (event.type === "tokens") {
        tokenIds.push(...event.tokenIds);
        text += event.text;
      }
      if (event.type === "checkpoint") {
        const { type: _, signature, ...values } = event;
        const { providerId } = signer;
        const checkpoint = { requestHash: requestHash(sha256, asked), providerId, ...values };
        signed = { checkpoint, signature };
      }
      if (event.type === "receipt") receipt = decodeReceipt(event.encoded);
    }
  } catch (thrown) {
    error = thrown;
  }
  const { providerId } = signer;
  const part = { providerId, asked, tokenIds, text, receipt, checkpoint: signed, problem: null };
  return { part, types, error };
}

function depsOf() {
  const chain = memoryChain();
  return { sha256, signer, clock: systemClock, chain };
}

const problemsOf = async (part: Part, as: Partial<Delivered> = {}): Promise<string[]> =>
  (await checkReceipt(sha256, part.receipt!, { ...part, ...as }, signer.providerId)).flatMap(
    ({ name, problem }) => (problem === null ? [] : [name]),
  );

const documentOf = (...parts: Part[]): ReceiptDocument => ({
  requestId: parts[0]!.asked.requestId,
  choices: [{ index: 0, prompt: requestOf().prompt, parts }],
});
const problemsIn = async (document: ReceiptDocument): Promise<string[]> =>
  (await checkDocument(sha256, document)).flatMap(({ part, name, problem }) =>
    problem === null ? [] : [`${part} ${name}`],
  );

test("an answer's receipt says what was delivered, and commits to every position", async () => {
  const { part, types } = await gather(depsOf(), requestOf(), { total: 40, byModel: true });
  assert.equal(types.at(-1), "receipt");
  assert.equal(types.at(-2), "end");
  assert.equal(types.filter((type) => type === "checkpoint").length, 1);
  assert.deepEqual(await problemsOf(part), []);
  const { receipt } = part.receipt!;
  const rows = Array.from({ length: 44 }, (_, position) => row(position));
  const tokens = [...promptTokenIds, ...Array.from({ length: 40 }, (_, position) => idAt(position))];
  assert.deepEqual(receipt.execution, {
    positions: 44,
    root: merkleRoot(sha256, rows),
    chain: rows.reduce((chain, each, i) => chainHead(sha256, chain, tokens[i]!, each), new Uint8Array(32)),
  });
  assert.deepEqual(receipt.promptTokensHash, tokensHash(sha256, promptTokenIds));
  assert.equal(receipt.finish, "stop");
  // 4 tokens at 100, 40 at 500 nanoUSD, and 50 ms at 1,000 nanoUSD a second.
  assert.equal(receipt.fee, 400n + 20_000n + 50n);
  const { checkpoint } = part.checkpoint!;
  assert.equal(checkpoint.position, 32);
  assert.equal(checkpoint.positions, 35, "the newest token is not read yet");
  assert.ok(await isSignedCheckpoint(sha256, part.checkpoint!));
});

test("a failure and a consumer that leaves have receipts for what was delivered, nothing has none", async () => {
  const deps = depsOf();
  const failed = await gather(deps, requestOf(), { total: 9, failAfter: 5 });
  assert.ok(failed.error instanceof SkeinError);
  assert.deepEqual(failed.types.slice(-2), ["tokens", "receipt"]);
  assert.deepEqual(await problemsOf(failed.part), []);
  assert.equal(failed.part.receipt!.receipt.finish, "failed");
  assert.equal(failed.part.receipt!.receipt.execution!.positions, 8);
  const nothing = await gather(deps, requestOf(), { total: 9, failAfter: 0 });
  assert.deepEqual(nothing.types, ["start"]);
  assert.equal(deps.chain.issued.length, 1);
  let tokens = 0;
  for await (const event of withReceipt(deps, issuer, requestOf(), events(requestOf(), { total: 9 }))) {
    if (event.type === "tokens" && ++tokens === 3) break;
  }
  assert.equal(deps.chain.issued.length, 2);
  const { receipt } = deps.chain.issued[1]!;
  assert.equal(receipt.finish, "cancelled");
  assert.equal(receipt.outputTokens, 3);
  assert.deepEqual(receipt.previousReceipt, receiptDigest(sha256, deps.chain.issued[0]!.receipt));
});

test("a receipt that says anything else than what was delivered or asked is noticed", async () => {
  const { part } = await gather(depsOf(), requestOf(), { total: 5 });
  const { asked } = part;
  assert.deepEqual(await problemsOf(part, { text: `${part.text}x` }), ["output"]);
  assert.deepEqual(await problemsOf(part, { tokenIds: [...part.tokenIds!.slice(1), 7] }), ["output"]);
  assert.deepEqual(await problemsOf(part, { tokenIds: part.tokenIds!.slice(1) }), ["output", "counts"]);
  assert.deepEqual(await problemsOf(part, { asked: { ...asked, timeoutMs: 1 } }), ["request"]);
  const signedAgain = async (values: Partial<Receipt>): Promise<string[]> =>
    problemsOf({
      ...part,
      receipt: await signReceipt(sha256, signer, { ...part.receipt!.receipt, ...values }),
    });
  assert.deepEqual(await signedAgain({ fee: 1n }), ["price"]);
  assert.deepEqual(await signedAgain({ promptTokens: 400 }), ["counts", "price"]);
  assert.deepEqual(await signedAgain({ execution: null }), ["counts"]);
  assert.deepEqual(await signedAgain({ seed: 3 }), ["model"]);
  assert.deepEqual(await signedAgain({ tier: "float" }), ["model"]);
  assert.deepEqual(await signedAgain({ modelId: "m" }), ["model"]);
  assert.deepEqual(await signedAgain({ opsHash: null }), ["model"]);
  assert.deepEqual(await signedAgain({ startPosition: 1 }), ["counts"]);
  assert.deepEqual(await signedAgain({ outputTokens: 4 }), ["counts", "price"]);
  assert.deepEqual(await signedAgain({ outputTokensHash: null }), ["output"]);
  assert.deepEqual(await signedAgain({ firstMs: 0 }), ["counts"]);
  assert.deepEqual(await signedAgain({ providerId: (await makeSigner()).providerId }), ["signature"]);
});

/** One attempt dies behind its checkpoint, the next one goes on. */
async function interrupted(): Promise<readonly [Part, Part]> {
  const deps = depsOf();
  const { part } = await gather(deps, requestOf(), { total: 90, failAfter: 70 });
  const first: Part = { ...part, receipt: null, problem: "its provider gave no receipt" };
  const { terms } = requestOf();
  const previous = checkpointDigest(sha256, first.checkpoint!.checkpoint);
  const request = requestOf({
    emitted: { tokenIds: first.tokenIds!, text: first.text },
    terms: { ...terms, chargesPrompt: false, previous },
  });
  const second = await gather(deps, request, { total: 90 });
  return [first, second.part];
}

test("attempts that follow one another fit together, by checkpoint or receipt", async () => {
  const [first, second] = await interrupted();
  assert.equal(first.checkpoint!.checkpoint.position, 64);
  assert.deepEqual(await problemsIn(documentOf(first, second)), []);
  assert.equal(second.receipt!.receipt.startPosition, 70);
  assert.equal(second.receipt!.receipt.execution!.positions, 93);
  // Everybody sees whether both computed the same: the second one has a checkpoint at the same place, too.
  const deps = depsOf();
  const places: number[] = [];
  const request = requestOf({ emitted: { tokenIds: first.tokenIds!, text: first.text } });
  for await (const event of withReceipt(deps, issuer, request, events(request, { total: 90 }))) {
    if (event.type !== "checkpoint") continue;
    places.push(event.position);
    if (event.position === 64) assert.deepEqual(event.chain, first.checkpoint!.checkpoint.chain);
  }
  assert.deepEqual(places, [64]);
});

test("attempts that do not fit together are noticed", async () => {
  const [first, second] = await interrupted();
  assert.deepEqual(await problemsIn(documentOf(second)), ["0 links"]);
  assert.deepEqual(await problemsIn(documentOf(first)), ["0 signature"]);
  assert.deepEqual(await problemsIn(documentOf({ ...first, checkpoint: null }, second)), ["1 links"]);
  assert.deepEqual(await problemsIn(documentOf({ ...first, text: "other" }, second)), ["1 links"]);
  const { checkpoint } = first.checkpoint!;
  const forged = { checkpoint: { ...checkpoint, position: 63 }, signature: first.checkpoint!.signature };
  assert.deepEqual(await problemsIn(documentOf({ ...first, checkpoint: forged }, second)), [
    "0 signature",
    "1 links",
  ]);
  const document = documentOf(first, second);
  const [choice] = document.choices;
  const otherPrompt = { ...choice!, prompt: { kind: "text", text: "Twice" } as const };
  assert.deepEqual(await problemsIn({ ...document, choices: [otherPrompt] }), ["0 prompt", "1 prompt"]);
  assert.deepEqual(await problemsIn({ ...document, requestId: "another" }), ["0 links", "1 links"]);
});

test("gaps are no proof, but forks and receipts that come twice are", async () => {
  const deps = depsOf();
  for (let i = 0; i < 5; i++) await gather(deps, requestOf(), { total: 2 });
  const { issued } = deps.chain;
  const add = (history: ReceiptHistory, receipt: Receipt): string | null =>
    history.add(receipt, receiptDigest(sha256, receipt));
  const [one, two, three, , five] = issued.map(({ receipt }) => receipt);
  const history = new ReceiptHistory();
  for (const receipt of [two!, one!, five!, three!]) assert.equal(add(history, receipt), null);
  assert.match(add(history, three!)!, /another answer already/);
  assert.match(add(history, { ...three!, fee: 1n })!, /two receipts with the number 3/);
  const fork = { ...five!, sequence: 4 };
  assert.match(add(history, fork)!, /does not follow the receipt with the number 3/);
  const other = new ReceiptHistory();
  assert.equal(add(other, two!), null);
  assert.match(add(other, { ...one!, fee: 1n })!, /the receipt with the number 2 does not follow it/);
  assert.equal(add(other, { ...one!, sequence: 1_000 }), null);
  assert.match(add(other, { ...one!, sequence: 5 })!, /far behind/);
});
