/** Answers of the exact engine, as it batches, caches and continues them, against the model itself. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { openEngine, tinySkein } from "../engine/exact/fixture.suite.ts";
import { loadModel } from "../engine/exact/load.ts";
import { tokenizePrompt } from "../engine/prompt.ts";
import { sha256 } from "../engine/sha256.ts";
import { merkleRoot } from "../exact/commitment/commitment.ts";
import type { KnownRows } from "../exact/commitment/difference.ts";
import { replayRows } from "../exact/replay.ts";
import { opsHash } from "../exact/ops/version.ts";
import { greedySampling, type Sampling, type Traced, type TraceRequest } from "../protocol/generate.ts";
import { freePriceSheet } from "../protocol/price.ts";
import { type Asked, askedOf, type RequestWithTerms, requestHash } from "../receipt/asked.ts";
import { checkDocument } from "../receipt/check-document.ts";
import type { Part, ReceiptedChoice } from "../receipt/document.ts";
import { makeSigner, memoryChain } from "../receipt/fixture.suite.ts";
import { withReceipt } from "../receipt/issue.ts";
import { decodeReceipt, type Receipt, receiptDigest, signReceipt } from "../receipt/receipt.ts";
import { textHash, tokensHash } from "../receipt/words.ts";
import { Trace } from "../receipt/trace.ts";
import { concatBytes } from "../util/bytes.ts";
import { systemClock } from "../util/clock.ts";
import { locateFault } from "./locate.ts";
import { verifyAnswer, type VerifiedAnswer } from "./verify-answer.ts";

const engine = await openEngine({ parallel: 3 });
const loaded = await loadModel(
  { modelPath: await tinySkein(), modelId: null, parallel: 1, contextTokens: null, threads: 1 },
  () => undefined,
);
const signer = await makeSigner();
const deps = { sha256, signer, clock: systemClock, chain: memoryChain() };
const { modelId, contextTokensMax } = engine.model;
after(() => engine.close());

function requestOf(
  values: Partial<RequestWithTerms> = {},
  sampling: Partial<Sampling> = {},
): RequestWithTerms {
  return {
    requestId: "0123456789abcdef01234567",
    modelId,
    prompt: { kind: "chat", messages: [{ role: "user", content: "Tell me about a fox." }] },
    emitted: { tokenIds: [], text: "" },
    sampling: { ...greedySampling, temperature: 1, seed: 3, ...sampling },
    stop: [],
    outputTokensMax: 40,
    timeoutMs: 60_000,
    terms: { tier: "exact", price: freePriceSheet, contextTokensMax, chargesPrompt: true, previous: null },
    ...values,
  };
}

/** @param leaveAfter tokens after which the consumer is gone */
async function answer(request: RequestWithTerms, leaveAfter = Number.POSITIVE_INFINITY): Promise<Part> {
  const abort = new AbortController();
  const tokenIds: number[] = [];
  let text = "";
  let receipt: Part["receipt"] = null;
  try {
    const events = engine.generate(request, abort.signal);
    for await (const event of withReceipt(deps, { engine: "test", opsHash }, request, events)) {
      if (event.type === "tokens") {
        tokenIds.push(...event.tokenIds);
        text += event.text;
        if (tokenIds.length === leaveAfter) abort.abort();
      }
      if (event.type === "receipt") receipt = decodeReceipt(event.encoded);
    }
  } catch (error) {
    if (!abort.signal.aborted) throw error;
  }
  const { providerId } = signer;
  return {
    providerId,
    asked: askedOf(sha256, request),
    tokenIds,
    text,
    receipt,
    checkpoint: null,
    problem: null,
  };
}

const choiceOf = (request: RequestWithTerms, ...parts: Part[]): ReceiptedChoice => ({
  index: 0,
  prompt: request.prompt,
  parts,
});

function verify(choice: ReceiptedChoice): VerifiedAnswer {
  const steps = verifyAnswer(sha256, loaded, choice);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

async function assertProved(choice: ReceiptedChoice): Promise<void> {
  const checks = await checkDocument(sha256, { requestId: requestOf().requestId, choices: [choice] });
  assert.deepEqual(
    checks.filter(({ problem }) => problem !== null),
    [],
  );
  const { problem, positions } = verify(choice);
  assert.equal(problem, null);
  assert.equal(positions, choice.parts.at(-1)!.receipt!.receipt.execution?.positions ?? 0);
}

test("whatever is asked, alone or beside others, from a cached prompt or not, is proved", async () => {
  const requests = [
    requestOf(),
    requestOf({ outputTokensMax: 200 }, { seed: 9 }),
    requestOf({ stop: ["the", "fox"] }, { temperature: 0.8, topP: 0.9, topK: 20 }),
    requestOf({ outputTokensMax: 1 }, { temperature: 0 }),
    requestOf({}, { minP: 0.05, presencePenalty: 1.5, frequencyPenalty: 0.7, logitBias: [[50, -3]] }),
    requestOf(
      { prompt: { kind: "text", text: "Once upon a time" }, outputTokensMax: 100 },
      { temperature: 2 },
    ),
    requestOf({ prompt: { kind: "tokens", tokenIds: [1, 48, 459] } }),
  ];
  const parts = await Promise.all(requests.map((request) => answer(request)));
  for (const [i, request] of requests.entries()) await assertProved(choiceOf(request, parts[i]!));
  assert.ok(parts.some(({ receipt }) => receipt!.receipt.finish === "stop"));
  // Again, now that everything is cached.
  for (const request of requests) await assertProved(choiceOf(request, await answer(request)));
  // Without a receipt in between, there are no hashes of what is cached.
  const { terms: _, ...plain } = requestOf({ outputTokensMax: 90 });
  for await (const event of engine.generate(plain, new AbortController().signal)) assert.ok(event);
  await assertProved(choiceOf(requests[1]!, await answer(requests[1]!)));
});

test("an answer that was cut is proved as far as it was delivered, and so is what goes on with it", async () => {
  const request = requestOf(
    { prompt: { kind: "text", text: "Once upon a time" }, outputTokensMax: 90 },
    { temperature: 2 },
  );
  const first = await answer(request, 50);
  assert.equal(first.receipt!.receipt.finish, "cancelled");
  await assertProved(choiceOf(request, first));
  const previous = receiptDigest(sha256, first.receipt!.receipt);
  const second = await answer({
    ...request,
    emitted: { tokenIds: first.tokenIds!, text: first.text },
    terms: { ...request.terms, chargesPrompt: false, previous },
  });
  await assertProved(choiceOf(request, first, second));
  const whole = await answer(request);
  assert.equal(first.text + second.text, whole.text);
  assert.deepEqual(second.receipt!.receipt.execution, whole.receipt!.receipt.execution);
});

/** A liar's part: everything that can be made to fit is made to fit, and signed. */
async function lie(part: Part, values: Partial<Receipt>, asked: Partial<Asked> = {}): Promise<Part> {
  const claimed = { ...part.asked, ...asked };
  const receipt = { ...part.receipt!.receipt, requestHash: requestHash(sha256, claimed), ...values };
  return { ...part, asked: claimed, receipt: await signReceipt(sha256, signer, receipt) };
}

test("what the model did not give is found, whoever signed it", async () => {
  const values = { prompt: { kind: "text", text: "Once upon a time" }, outputTokensMax: 30 } as const;
  const request = requestOf(values, { temperature: 2 });
  const honest = await answer(request);
  const problemOf = (part: Part): string => verify(choiceOf(request, part)).problem ?? "none";
  // Another text than the tokens'.
  const text = `${honest.text}!`;
  assert.match(
    problemOf({ ...(await lie(honest, { outputTextHash: textHash(sha256, text) })), text }),
    /give another text/,
  );
  // A token exchanged behind the back of the commitments, with the text that belongs to it.
  const other = await answer(requestOf(values, { temperature: 2, seed: 4 }));
  const swapped = { ...honest, tokenIds: other.tokenIds, text: other.text };
  const hashes = {
    outputTokensHash: tokensHash(sha256, other.tokenIds!),
    outputTextHash: textHash(sha256, other.text),
    outputTokens: other.tokenIds!.length,
    finish: other.receipt!.receipt.finish,
  };
  assert.match(problemOf(await lie(swapped, hashes)), /of the answer is token|other numbers/);
  // The right model's numbers for a foreign text.
  const { execution } = other.receipt!.receipt;
  assert.match(problemOf(await lie(swapped, { ...hashes, execution })), /token \d of the answer is token/);
  // Other numbers for the right text.
  const root = sha256(execution!.root);
  const wrong = { ...honest.receipt!.receipt.execution!, root };
  assert.match(problemOf(await lie(honest, { execution: wrong })), /other numbers somewhere from position 0/);
  // Another seed, another temperature.
  const { sampling } = honest.asked;
  assert.match(problemOf(await lie(honest, {}, { sampling: { ...sampling, seed: 4 } })), /model draws/);
  assert.match(
    problemOf(await lie(honest, {}, { sampling: { ...sampling, temperature: 0 } })),
    /model draws/,
  );
  // An end that was not drawn.
  assert.match(
    problemOf(await lie(honest, { finish: "stop" }, { outputTokensMax: 31 })),
    /does not commit to its end/,
  );
  assert.match(
    problemOf(await lie(honest, { finish: "length" }, { outputTokensMax: 31 })),
    /ended by 'length'/,
  );
  assert.equal(problemOf(honest), "none");
});

test("what cannot be computed again is said to be so", async () => {
  const request = requestOf({ outputTokensMax: 4 });
  const part = await answer(request);
  const refused = (choice: ReceiptedChoice, why: RegExp): void => assert.throws(() => verify(choice), why);
  refused({ ...choiceOf(request, part), prompt: null }, /prompt was too long/);
  refused(choiceOf(request), /nobody has answered/);
  refused(choiceOf(request, { ...part, tokenIds: null }), /token ids are not known/);
  refused(choiceOf(request, { ...part, asked: { ...part.asked, tier: "float" } }), /tier is 'float'/);
  refused(choiceOf(request, { ...part, asked: { ...part.asked, modelId: "m" } }), /it is of m/);
  refused(choiceOf(request, await lie(part, { opsHash: new Uint8Array(32).fill(1) })), /other operations/);
});

test("a provider that is honest only when it is asked does not come through; one that shows its error is located", async () => {
  const request = requestOf({ outputTokensMax: 12 });
  const honest = await answer(request);
  const tokens = [...tokenizePrompt(loaded.prompt, request.prompt), ...honest.tokenIds!];
  // Its numbers at one layer of one position are other ones.
  const { execution } = honest.receipt!.receipt;
  const right = [
    ...replayRows([loaded.executor], {
      sha256,
      tokens: tokens.slice(0, execution!.positions),
      promptLength: 1,
    }),
  ];
  const wrongLeaves = right.map(({ leaves }) => [...leaves]);
  wrongLeaves[9]![4] = sha256(wrongLeaves[9]![4]!);
  const wrongRows = wrongLeaves.map((leaves) => merkleRoot(sha256, leaves));
  const trace = new Trace(sha256);
  trace.push(tokens.slice(0, wrongRows.length), concatBytes(wrongRows));
  const part = await lie(honest, { execution: trace.execution() });
  const verifyWith = (known: KnownRows): VerifiedAnswer["fault"] => {
    const steps = verifyAnswer(sha256, loaded, choiceOf(request, part), { known });
    for (;;) {
      const { done, value } = steps.next();
      if (done === true) return value.fault;
    }
  };
  const give =
    (rows: readonly Uint8Array[], leaves: readonly Uint8Array[][]) =>
    async (asked: TraceRequest): Promise<Traced> => ({
      rows: concatBytes(rows),
      leaves: asked.position === null ? null : concatBytes(leaves[asked.position]!),
    });
  const shown = await locateFault(sha256, part.receipt!, tokens, give(wrongRows, wrongLeaves), verifyWith);
  assert.deepEqual(shown, { kind: "numbers", position: 9, lastPosition: 9, part: 4 });
  const hidden = give(
    right.map(({ row }) => row),
    wrongLeaves,
  );
  await assert.rejects(
    locateFault(sha256, part.receipt!, tokens, hidden, verifyWith),
    /not those that it signed/,
  );
});
