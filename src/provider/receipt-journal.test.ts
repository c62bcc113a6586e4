import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { sha256 } from "../engine/sha256.ts";
import { createSigner } from "../network/identity.ts";
import { type ReceiptPlace } from "../receipt/issue.ts";
import {
  decodeReceipt,
  noEvidence,
  receiptDigest,
  type SignedReceipt,
  signReceipt,
} from "../receipt/receipt.ts";
import { ReceiptHistory } from "../receipt/history.ts";
import { MemoryStore } from "../store/memory.ts";
import type { Batch, Store } from "../store/port.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { systemClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { seededRandom } from "../util/random.ts";
import { createReceiptJournal } from "./receipt-journal.ts";

const signer = await createSigner(seededRandom(5).bytes(32));
const hash = new Uint8Array(32).fill(1);

async function make({ sequence, previous }: ReceiptPlace): Promise<SignedReceipt> {
  return signReceipt(sha256, signer, {
    tier: "float",
    requestHash: hash,
    providerId: signer.providerId,
    sequence,
    previousReceipt: previous,
    modelId: "m",
    opsHash: null,
    engine: "",
    promptTokens: 1,
    promptTokensHash: null,
    startPosition: 0,
    outputTokens: 1,
    outputTokensHash: null,
    outputTextHash: hash,
    finish: "stop",
    seed: 0,
    seedProof: new Uint8Array(0),
    execution: null,
    durationMs: 0,
    fee: 0n,
    receivedMs: 0,
    firstMs: 0,
    lastMs: 0,
    evidence: noEvidence,
  });
}

const journalOn = (store: Store) => createReceiptJournal({ store, clock: systemClock, sha256 });

function assertChain(receipts: readonly SignedReceipt[]): void {
  const history = new ReceiptHistory();
  for (const [i, { receipt }] of receipts.entries()) {
    assert.equal(receipt.sequence, i + 1);
    assert.equal(history.add(receipt, receiptDigest(sha256, receipt)), null);
  }
}

test("receipts form one chain, however many are made at once, and go on after a restart", async () => {
  const folder = mkdtempSync(join(tmpdir(), "skein-receipts-"));
  const path = join(folder, "receipts.db");
  try {
    const first = await openSqliteStore(path, systemClock);
    const journal = journalOn(first);
    const made = await Promise.all(Array.from({ length: 40 }, () => journal.append(make)));
    await first.close();
    const second = await openSqliteStore(path, systemClock);
    made.push(await journalOn(second).append(make));
    assertChain(made.toSorted((a, b) => a.receipt.sequence - b.receipt.sequence));
    const kept = await second.scan({ prefix: "receipts/issued/", limit: 100 });
    assertChain(kept.map(({ value }) => decodeReceipt(value)));
    await second.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a receipt that is not on the disk does not leave, and leaves no gap", async () => {
  const store = new MemoryStore(systemClock);
  let fails = false;
  const journal = journalOn({
    get: (key) => store.get(key),
    scan: (scan) => store.scan(scan),
    sweep: (limit) => store.sweep(limit),
    close: () => store.close(),
    commit: (batch: Batch) => {
      if (fails) return Promise.reject(new SkeinError("store_failed", "The disk is full."));
      return store.commit(batch);
    },
  });
  const one = await journal.append(make);
  fails = true;
  await assert.rejects(journal.append(make), /disk is full/);
  await assert.rejects(
    journal.append(() => Promise.reject(new Error("cannot sign"))),
    /cannot sign/,
  );
  fails = false;
  assertChain([one, await journal.append(make), await journal.append(make)]);
});

test("two processes of one provider do not fork its chain", async () => {
  const store = new MemoryStore(systemClock);
  const [a, b] = [journalOn(store), journalOn(store)];
  const one = await a.append(make);
  const two = await b.append(make);
  await assert.rejects(a.append(make), /Another process/);
  assertChain([one, two, await a.append(make)]);
});
