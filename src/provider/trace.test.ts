import assert from "node:assert/strict";
import { after, test } from "node:test";
import { openEngine } from "../engine/exact/fixture.suite.ts";
import { sha256 } from "../engine/sha256.ts";
import { opsHash } from "../exact/ops/version.ts";
import type { Traced, TraceRequest } from "../protocol/generate.ts";
import { makeSigner, requestOf } from "../receipt/fixture.suite.ts";
import { withReceipt } from "../receipt/issue.ts";
import { openTrace } from "../receipt/opened-trace.ts";
import { decodeReceipt, type SignedReceipt } from "../receipt/receipt.ts";
import { MemoryStore } from "../store/memory.ts";
import { ManualClock } from "../util/clock.ts";
import { createReceiptJournal } from "./receipt-journal.ts";
import { createTracer } from "./trace.ts";

const engine = await openEngine({ parallel: 2 });
const signer = await makeSigner();
const never = new AbortController().signal;
const { modelId } = engine.model;
const promptTokens = [1, 48, 459, 321, 265];
after(() => engine.close());

test("a provider gives the rows and leaves that it signed, of its own answers only, and not too often", async () => {
  const clock = new ManualClock();
  const store = new MemoryStore(clock);
  const chain = createReceiptJournal({ store, clock, sha256 });
  const journaled = { sha256, signer, clock, chain };
  const prompt = { kind: "tokens", tokenIds: promptTokens } as const;
  const request = requestOf({ modelId, prompt, outputTokensMax: 12 });
  const tokenIds: number[] = [];
  let receipt: SignedReceipt | null = null;
  for await (const event of withReceipt(
    journaled,
    { engine: "test", opsHash },
    request,
    engine.generate(request, never),
  )) {
    if (event.type === "tokens") tokenIds.push(...event.tokenIds);
    if (event.type === "receipt") receipt = decodeReceipt(event.encoded);
  }
  const execution = receipt!.receipt.execution!;
  const tracer = createTracer({ sha256, clock, find: (sequence) => chain.find(sequence) });
  const asked = { modelId, sequence: 1, tokenIds: [...promptTokens, ...tokenIds], position: null };
  const trace = (values: Partial<TraceRequest> = {}): Promise<Traced> => {
    clock.advance(1_000);
    return tracer(engine, { ...asked, ...values }, never);
  };
  // 1. What it signed.
  const { rows } = openTrace(sha256, execution, await trace(), null);
  assert.equal(rows.length, execution.positions);
  for (const position of [0, promptTokens.length, execution.positions - 1]) {
    const traced = await trace({ position });
    const known = openTrace(sha256, execution, traced, position);
    assert.equal(known.leaves![position]!.length, 6 + 2);
    assert.throws(() => openTrace(sha256, execution, { ...traced, leaves: null }, position), /leaves/);
    assert.throws(
      () => openTrace(sha256, execution, { ...traced, rows: traced.rows.slice(32) }, position),
      /rows/,
    );
  }
  // 2. Nothing else.
  await assert.rejects(trace({ sequence: 2 }), /no such receipt/);
  await assert.rejects(trace({ tokenIds: asked.tokenIds.with(0, 5) }), /another answer/);
  await assert.rejects(trace({ tokenIds: [...asked.tokenIds.slice(0, -1), 5] }), /another answer/);
  await assert.rejects(trace({ position: execution.positions }), /so many positions/);
  // 3. One at a time.
  const running = trace();
  await assert.rejects(tracer(engine, asked, never), /just given a trace/);
  await running;
  await assert.rejects(tracer(engine, asked, never), /just given a trace/);
});
