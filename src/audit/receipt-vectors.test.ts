import assert from "node:assert/strict";
import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fromHex, toHex } from "../util/bytes.ts";
import { decodeReceipt, encodeReceipt, receiptDigest } from "../receipt/receipt.ts";
import { sha256 } from "../engine/sha256.ts";
import { receiptVectors } from "./receipt-vectors.suite.ts";

const file = readFileSync(new URL("../../vectors/receipts.json", import.meta.url), "utf8");

interface Case {
  readonly parts: readonly { readonly receipt: { readonly signature: string } }[];
  readonly requestWords: string[];
  readonly requestHash: string;
  readonly receiptWords: string[];
  readonly receiptDigest: string;
  readonly receiptEncoded: string;
}

test("vectors/receipts.json is up to date", async () => {
  assert.ok((await receiptVectors()) === file, "run: node scripts/receipt-vectors.ts");
});

test("its digests and signatures are what any implementation of SHA-256 and Ed25519 says", () => {
  const { cases } = JSON.parse(file) as { cases: Case[] };
  assert.equal(cases.length, 2);
  for (const each of cases) {
    const hash = (words: string[]): string =>
      createHash("sha256")
        .update(Buffer.from(words.join(""), "hex"))
        .digest("hex");
    assert.ok([...each.requestWords, ...each.receiptWords].every((word) => word.length === 64));
    assert.equal(hash(each.requestWords), each.requestHash);
    assert.equal(hash(each.receiptWords), each.receiptDigest);
    // The provider's key is the fourth word. RFC 8410's header stands before it.
    const der = Buffer.from(`302a300506032b6570032100${each.receiptWords[3]}`, "hex");
    const key = createPublicKey({ key: der, format: "der", type: "spki" });
    const signature = Buffer.from(each.parts[0]!.receipt.signature, "hex");
    assert.ok(verify(null, Buffer.from(each.receiptDigest, "hex"), key, signature));
    const decoded = decodeReceipt(fromHex(each.receiptEncoded));
    assert.equal(toHex(receiptDigest(sha256, decoded.receipt)), each.receiptDigest);
    assert.equal(toHex(encodeReceipt(decoded)), each.receiptEncoded);
  }
});
