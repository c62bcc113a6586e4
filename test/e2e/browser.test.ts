/** The exact engine in a browser: the same bits as in Node, wherever in the browser it runs. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";
import { sha256 } from "../../src/engine/sha256.ts";
import { toHex } from "../../src/util/bytes.ts";
import { receiptOf } from "./browser/receipt-maker.ts";
import { type Answers, answersOf } from "./browser/answers.ts";
import { type Browser, performIn, skipWithoutBrowser, startBrowser } from "./browser/chromium.ts";
import { convertDemo, serveDemo } from "./browser/demo.ts";
import type { Place } from "./browser/page.ts";
import type { ModuleServer } from "./browser/server.ts";
import type { VectorFile } from "./browser/vectors.ts";

const skip = skipWithoutBrowser();
if (skip !== false) console.log(`# The exact engine in a browser: ${skip}`);

const task = { prompt: "Once upon a time", tokens: 1_000, commits: true } as const;
const places: readonly Place[] = ["main thread", "worker"];
const vectorFolder = fileURLToPath(new URL("../../vectors", import.meta.url));
const vectors: readonly VectorFile[] = readdirSync(vectorFolder)
  .filter((name) => name === "operations.json" || name.startsWith("trace-"))
  .map((name) => ({ name, text: readFileSync(join(vectorFolder, name), "utf8") }));
let browser: Browser;
/** Without and with cross-origin isolation. */
let servers: readonly ModuleServer[];
let container: Uint8Array;
let expected: Answers;

before(async () => {
  if (skip !== false) return;
  container = await convertDemo();
  servers = [await serveDemo(container, false), await serveDemo(container, true)];
  expected = await answersOf(container, sha256, task);
  browser = await startBrowser("none");
});

after(async () => {
  if (skip !== false) return;
  await browser?.close();
  await Promise.all((servers ?? []).map((server) => server.close()));
});

test("what Node generates is worth comparing", { skip }, () => {
  const { answers } = expected;
  assert.equal(answers.flatMap(({ tokens }) => tokens).length, task.tokens);
  assert.ok(new Set(answers.map(({ execRoot }) => execRoot)).size > 1);
});

for (const place of places) {
  for (const isolated of [false, true]) {
    const how = `${place}, ${isolated ? "with" : "without"} cross-origin isolation`;
    const open = async (): Promise<Page> => {
      const page = await browser.open(servers[isolated ? 1 : 0]!.url);
      assert.equal(await page.evaluate(() => crossOriginIsolated), isolated);
      return page;
    };

    test(`the conformance vectors come out: ${how}`, { skip }, async () => {
      const page = await open();
      assert.deepEqual(await performIn(page, place, "vectors", vectors), []);
      await page.close();
    });

    test(`a thousand tokens at temperature 1 with the commitments of Node's: ${how}`, { skip }, async () => {
      const page = await open();
      const { modelId, answers } = await performIn(page, place, "answers", task);
      await page.close();
      assert.equal(modelId, expected.modelId);
      assert.deepEqual(answers, expected.answers);
    });
  }
}

test("vectors that are changed by one are noticed", { skip }, async () => {
  const page = await browser.open(servers[0]!.url);
  // The last number is a token that was chosen.
  const changed = vectors.map(({ name, text }) => ({
    name,
    text: text.replace(/\d+(?=\D*$)/, (last) => String(Number(last) + 1)),
  }));
  const wrong = await performIn(page, "worker", "vectors", changed);
  await page.close();
  const named = vectors.map(({ name }) => (name === "operations.json" ? "sampleToken" : name));
  assert.deepEqual(new Set(wrong.map((each) => each.split(" ")[0])), new Set(named));
});

test(
  "several threads in one memory give Node's commitments, where pages are isolated",
  { skip },
  async () => {
    const page = await browser.open(servers[1]!.url);
    const { answers } = await performIn(page, "worker", "team", { ...task, threads: 3 });
    await page.close();
    assert.deepEqual(answers, expected.answers);
  },
);

test(
  "a receipt made in Node is confirmed in a browser by computing again, an altered one is not",
  { skip },
  async () => {
    const document = await receiptOf(container);
    const page = await browser.open(servers[0]!.url);
    const confirmed = await performIn(page, "worker", "receipt", document);
    const { receipt } = document.choices[0]!.parts[0]!;
    const altered = structuredClone(document);
    altered.choices[0]!.parts[0]!.receipt!.fee = "0";
    const refused = await performIn(page, "worker", "receipt", altered);
    const otherSeed = structuredClone(document);
    otherSeed.choices[0]!.parts[0]!.request.seed += 1;
    const other = await performIn(page, "worker", "receipt", otherSeed);
    await page.close();
    assert.deepEqual(confirmed, { problems: [], positions: receipt!.execution!.positions, fault: null });
    assert.deepEqual(refused.problems, ["signature", "price"]);
    assert.deepEqual(other.problems, ["request", "model"]);
    assert.equal(other.fault?.kind, "token");
  },
);

test("a browser converts a model into the same file", { skip }, async () => {
  const page = await browser.open(servers[0]!.url);
  const converted = await performIn(page, "worker", "convert", { name: "tiny" });
  await page.close();
  assert.equal(converted.modelId, expected.modelId);
  assert.equal(converted.fileHash, toHex(sha256(container)));
});

test("in a browser kernels and reference agree on random models in every bit", { skip }, async () => {
  const page = await browser.open(servers[0]!.url);
  const { tokens, differingBits } = await performIn(page, "worker", "random", { seed: 4_711, tokens: 1_000 });
  await page.close();
  assert.ok(tokens >= 1_000);
  assert.equal(differingBits, 0);
});

test("the WebGPU kernel gives the bits of the WebAssembly one", { skip }, async (context) => {
  const graphical = await startBrowser("software");
  try {
    const page = await graphical.open(servers[0]!.url);
    const result = await performIn(page, "worker", "gpu", { seed: 12 });
    if (result === null) {
      context.skip("NOT RUN: this Chromium has no WebGPU adapter, not even one in software.");
      return;
    }
    context.diagnostic(
      `WebGPU adapter: ${result.adapter}; ${result.values} values of ${result.matrices} matrices`,
    );
    assert.deepEqual(result.different, []);
    assert.ok(result.unsaturated > 10_000);
  } finally {
    await graphical.close();
  }
});
