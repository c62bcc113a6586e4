/**
 * What receipts cost the exact engine, and what it costs to check them: CPU time of whole answers with and without (commitments, checkpoints,
 * signature, and the provider's journal on a disk), their size, and the time per token of computing an answer again beside that of giving it.
 * Each pair of answers has the same tokens. Figures are medians over pairs.
 *
 *   npm run bench -- receipts [--quick]
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { shape120M, writeRandomGguf } from "../scripts/random-gguf.ts";
import { verifyAnswer } from "../src/audit/verify-answer.ts";
import { convertFile } from "../src/engine/exact/convert.ts";
import { createExactEngine } from "../src/engine/exact/index.ts";
import { loadModel } from "../src/engine/exact/load.ts";
import { sha256 } from "../src/engine/sha256.ts";
import { opsHash } from "../src/exact/ops/version.ts";
import { createSigner } from "../src/network/identity.ts";
import { type GenerateEvent, greedySampling } from "../src/protocol/generate.ts";
import { freePriceSheet } from "../src/protocol/price.ts";
import { createReceiptJournal } from "../src/provider/receipt-journal.ts";
import { askedOf, type RequestWithTerms } from "../src/receipt/asked.ts";
import { checkReceipt } from "../src/receipt/check.ts";
import { withReceipt } from "../src/receipt/issue.ts";
import { decodeReceipt } from "../src/receipt/receipt.ts";
import { openSqliteStore } from "../src/store/sqlite.ts";
import { temporaryHome, tinyModel } from "../test/e2e/processes.ts";
import { toHex } from "../src/util/bytes.ts";
import { systemClock } from "../src/util/clock.ts";
import { silentLogger } from "../src/util/log.ts";
import { systemRandom } from "../src/util/random.ts";
import { cachedFile } from "./lib/model-cache.ts";

const { values } = parseArgs({ options: { quick: { type: "boolean" } } });
const pairs = values.quick ? 6 : 15;
const outputTokens = 128;
const warmups = 4;

/** CPU time of all threads of this process, in milliseconds. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
}

interface Figures {
  readonly costPercent: number;
  readonly receiptBytes: number;
  readonly issueMs: number;
  readonly checkMs: number;
  readonly verifyToDecode: number;
}

async function measure(modelPath: string, folder: string): Promise<Figures> {
  const deps = { clock: systemClock, log: silentLogger };
  const sizes = { parallel: 1, contextTokens: 256, threads: 1 };
  const engine = await createExactEngine(deps, { modelPath, name: null, ...sizes });
  const loaded = await loadModel({ modelPath, modelId: null, ...sizes }, () => undefined);
  const store = await openSqliteStore(join(folder, "receipts.db"), systemClock);
  const signer = await createSigner(systemRandom.bytes(32));
  const chain = createReceiptJournal({ store, clock: systemClock, sha256 });
  const { modelId, contextTokensMax } = engine.model;
  const requestOf = (seed: number): RequestWithTerms => ({
    requestId: "0123456789abcdef01234567",
    modelId,
    prompt: { kind: "text", text: "Once upon a time" },
    emitted: { tokenIds: [], text: "" },
    sampling: { ...greedySampling, temperature: 2, seed },
    stop: [],
    outputTokensMax: outputTokens,
    timeoutMs: 600_000,
    terms: { tier: "exact", price: freePriceSheet, contextTokensMax, chargesPrompt: true, previous: null },
  });
  const { signal } = new AbortController();

  async function answer(request: RequestWithTerms, isSigned: boolean) {
    const { terms: _, ...plain } = request;
    const startMs = cpuMs();
    const events = isSigned
      ? withReceipt(
          { sha256, signer, clock: systemClock, chain },
          { engine: "bench", opsHash },
          request,
          engine.generate(request, signal),
        )
      : engine.generate(plain, signal);
    const seen: GenerateEvent[] = [];
    let endMs = 0;
    for await (const event of events) {
      seen.push(event);
      if (event.type === "end") endMs = performance.now();
    }
    const receiptMs = performance.now() - endMs;
    const tokens = seen.flatMap((event) => (event.type === "tokens" ? event.tokenIds : []));
    const text = seen.map((event) => (event.type === "tokens" ? event.text : "")).join("");
    const receipt = seen.find((event) => event.type === "receipt")?.encoded ?? null;
    return { ms: cpuMs() - startMs, receiptMs, tokens, text, receipt };
  }

  const samples = {
    cost: [] as number[],
    issue: [] as number[],
    check: [] as number[],
    verify: [] as number[],
  };
  let receiptBytes = 0;
  try {
    for (let seed = 0; samples.cost.length < pairs; seed++) {
      const request = requestOf(seed);
      // The prompt is read before: both go on from the same cache. Who comes first changes.
      await answer({ ...request, outputTokensMax: 1 }, true);
      const order = seed % 2 === 0 ? [false, true] : [true, false];
      const runs = [await answer(request, order[0]!), await answer(request, order[1]!)];
      const [plain, signed] = order[0] ? runs.toReversed() : runs;
      const receipt = decodeReceipt(signed!.receipt!);
      const asked = askedOf(sha256, request);
      const part = {
        providerId: signer.providerId,
        asked,
        tokenIds: signed!.tokens,
        text: signed!.text,
        receipt,
        checkpoint: null,
        problem: null,
      };
      const checkStart = performance.now();
      const checks = await checkReceipt(sha256, receipt, part, signer.providerId);
      const checkMs = performance.now() - checkStart;
      const verifyStart = cpuMs();
      const steps = verifyAnswer(sha256, loaded, { index: 0, prompt: request.prompt, parts: [part] });
      let step = steps.next();
      while (step.done !== true) step = steps.next();
      const verifyMs = cpuMs() - verifyStart;
      if (step.value.problem !== null || checks.some(({ problem }) => problem !== null))
        throw new Error("a receipt is wrong");
      if (plain!.tokens.join() !== signed!.tokens.join()) throw new Error("two answers to one seed differ");
      // The first ones warm everything up. An answer that ends soon is not typical.
      if (seed < warmups || signed!.tokens.length < outputTokens) continue;
      samples.cost.push(100 * (signed!.ms / plain!.ms - 1));
      samples.issue.push(signed!.receiptMs);
      samples.check.push(checkMs);
      samples.verify.push(verifyMs / step.value.positions / (plain!.ms / plain!.tokens.length));
      receiptBytes = Math.max(receiptBytes, signed!.receipt!.length);
    }
  } finally {
    await engine.close();
    await store.close();
  }
  return {
    costPercent: median(samples.cost),
    receiptBytes,
    issueMs: median(samples.issue),
    checkMs: median(samples.check),
    verifyToDecode: median(samples.verify),
  };
}

function converted(path: string, name: string): Promise<string> {
  const { signal } = new AbortController();
  return cachedFile(`${name}-${toHex(opsHash).slice(0, 8)}.skein`, (target) =>
    convertFile(path, target, { signal }),
  );
}

const home = temporaryHome();
try {
  const result: Record<string, number> = { pairs };
  const models: [string, () => Promise<string>][] = [["tiny", () => converted(tinyModel, "receipts-tiny")]];
  if (!values.quick) {
    models.push([
      "113M",
      async () =>
        converted(
          await cachedFile("random-113M-1.Q8_0.gguf", (path) => writeRandomGguf(path, shape120M)),
          "receipts-113M",
        ),
    ]);
  }
  for (const [name, make] of models) {
    const figures = await measure(await make(), home.path);
    console.log(
      `${name.padEnd(6)}receipts cost ${figures.costPercent.toFixed(1)} % CPU time of an answer, have ${figures.receiptBytes} bytes, come ${figures.issueMs.toFixed(1)} ms behind the end; ` +
        `checked in ${figures.checkMs.toFixed(2)} ms; computed again in ${figures.verifyToDecode.toFixed(2)} of the time per token of answering`,
    );
    for (const [key, value] of Object.entries(figures)) result[`${key}_${name}`] = Number(value.toFixed(3));
  }
  console.log(JSON.stringify(result));
} finally {
  home.remove();
}
