/** An answer of the exact engine in Node, with the receipt that a provider would sign. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createExactEngine } from "../../../src/engine/exact/index.ts";
import { sha256 } from "../../../src/engine/sha256.ts";
import { opsHash } from "../../../src/exact/ops/version.ts";
import { greedySampling } from "../../../src/protocol/generate.ts";
import { freePriceSheet } from "../../../src/protocol/price.ts";
import { askedOf, type RequestWithTerms } from "../../../src/receipt/asked.ts";
import { documentView, type Part, type ReceiptDocumentView } from "../../../src/receipt/document.ts";
import { makeSigner, memoryChain } from "../../../src/receipt/fixture.suite.ts";
import { withReceipt } from "../../../src/receipt/issue.ts";
import { decodeReceipt } from "../../../src/receipt/receipt.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { silentLogger } from "../../../src/util/log.ts";
import { temporaryHome } from "../processes.ts";

export async function receiptOf(container: Uint8Array): Promise<ReceiptDocumentView> {
  const home = temporaryHome();
  const modelPath = join(home.path, "model.skein");
  writeFileSync(modelPath, container);
  const options = { modelPath, name: null, contextTokens: null, parallel: 1, threads: 1 };
  const engine = await createExactEngine({ clock: systemClock, log: silentLogger }, options);
  try {
    const { modelId, contextTokensMax } = engine.model;
    const price = { ...freePriceSheet, outputPerMillionTokens: 500_000_000n };
    const request: RequestWithTerms = {
      requestId: "0123456789abcdef01234567",
      modelId,
      prompt: { kind: "text", text: "Once upon a time" },
      emitted: { tokenIds: [], text: "" },
      sampling: { ...greedySampling, temperature: 1.5, frequencyPenalty: 0.3, seed: 12 },
      stop: [],
      outputTokensMax: 150,
      timeoutMs: 60_000,
      terms: { tier: "exact", price, contextTokensMax, chargesPrompt: true, previous: null },
    };
    const signer = await makeSigner();
    const deps = { sha256, signer, clock: systemClock, chain: memoryChain() };
    const events = engine.generate(request, new AbortController().signal);
    const tokenIds: number[] = [];
    let text = "";
    let receipt: Part["receipt"] = null;
    for await (const event of withReceipt(deps, { engine: "test", opsHash }, request, events)) {
      if (event.type === "tokens") {
        tokenIds.push(...event.tokenIds);
        text += event.text;
      }
      if (event.type === "receipt") receipt = decodeReceipt(event.encoded);
    }
    const { providerId } = signer;
    const asked = askedOf(sha256, request);
    const part = { providerId, asked, tokenIds, text, receipt, checkpoint: null, problem: null };
    const choices = [{ index: 0, prompt: request.prompt, parts: [part] }];
    return documentView({ requestId: request.requestId, choices });
  } finally {
    await engine.close();
    home.remove();
  }
}
