import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { SkeinError } from "../../util/errors.ts";
import { merkleRoot, modelIdOfGguf } from "./identity.ts";
import { inspectGguf, nameOf } from "./inspect.ts";

const tinyModel = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..", "models", "tiny.Q8_0.gguf");
const folder = mkdtempSync(join(tmpdir(), "skein-gguf-"));
after(() => rmSync(folder, { recursive: true }));
const never = new AbortController().signal;
const bytes = readFileSync(tinyModel);
const isInvalidFile = (error: unknown): boolean =>
  error instanceof SkeinError && error.code === "invalid_model_file";

function write(name: string, content: Uint8Array): string {
  const file = join(folder, name);
  writeFileSync(file, content);
  return file;
}

const identityOf = (file: string): Promise<string> =>
  modelIdOfGguf(file, { cacheFolder: null, signal: never });

test("the demo model describes itself", async () => {
  const info = await inspectGguf(tinyModel);
  assert.deepEqual(
    [info.architecture, info.name, info.contextTokensTrained, info.vocabularySize, info.weightType],
    ["llama", "tiny", 512, 2048, "Q8_0"],
  );
  assert.equal(info.chatTemplate!.eosToken, "<|im_end|>");
  assert.ok(info.chatTemplate!.specialTokens.includes("<|im_start|>"));
  assert.ok(info.parameters > 5_000_000n && info.parameters < 5_500_000n);
});

test("names are what clients type, the same for every quantisation", () => {
  assert.equal(nameOf("/x/Qwen2.5-7B-Instruct-Q4_K_M.gguf"), "qwen2.5-7b-instruct");
  assert.equal(nameOf("tiny.F16.gguf"), "tiny");
  assert.equal(nameOf("My Model (v2).gguf"), "my-model-v2-");
  assert.equal(nameOf(".gguf"), "model");
});

test("an identity does not depend on name or general metadata, but on weights, tokenizer and template", async () => {
  const original = await identityOf(tinyModel);
  assert.match(original, /^gguf-sha256:[0-9a-f]{64}$/);
  const changed = async (what: string, at: number): Promise<string> => {
    assert.ok(at > 0, what);
    const copy = Buffer.from(bytes);
    copy[at]! ^= 1;
    return identityOf(write(`${what}.gguf`, copy));
  };
  const inside = (text: string): number => bytes.indexOf(text) + text.length;
  assert.equal(await identityOf(write("other-name.gguf", bytes)), original);
  // The value of general.name follows its key, type (4 bytes) and length (8 bytes).
  assert.equal(await changed("general name", inside("general.name") + 12), original);
  assert.notEqual(await changed("weights", bytes.length - 100), original);
  assert.notEqual(await changed("template", inside("tokenizer.chat_template") + 40), original);
  assert.notEqual(
    await changed("vocabulary", bytes.indexOf("<|im_start|>", inside("tokenizer.ggml.tokens")) + 3),
    original,
  );
});

test("an identity is kept by path, size and time, and computed anew when the file changes", async () => {
  const cacheFolder = join(folder, "cache");
  const file = write("cached.gguf", bytes);
  const first = await modelIdOfGguf(file, { cacheFolder, signal: never });
  const progress: number[] = [];
  const options = { cacheFolder, signal: never, onProgress: (done: number) => progress.push(done) };
  assert.equal(await modelIdOfGguf(file, options), first);
  assert.deepEqual(progress, [], "nothing was hashed again");
  assert.equal(readdirSync(cacheFolder).length, 1);
  await assert.rejects(modelIdOfGguf(file, { cacheFolder: null, signal: AbortSignal.abort() }), /cancelled/);
});

test("Merkle roots are those of RFC 6962", () => {
  const sha = (...parts: Buffer[]): Buffer => createHash("sha256").update(Buffer.concat(parts)).digest();
  const leaf = (text: string): Buffer => sha(Buffer.of(0), Buffer.from(text));
  const node = (a: Buffer, b: Buffer): Buffer => sha(Buffer.of(1), a, b);
  const [a, b, c, d, e] = ["a", "b", "c", "d", "e"].map(leaf) as [Buffer, Buffer, Buffer, Buffer, Buffer];
  assert.deepEqual(merkleRoot([]), sha());
  assert.deepEqual(merkleRoot([a]), a);
  assert.deepEqual(merkleRoot([a, b, c]), node(node(a, b), c));
  assert.deepEqual(merkleRoot([a, b, c, d, e]), node(node(node(a, b), node(c, d)), e));
});

test("what is not a whole GGUF model is refused with a reason", async () => {
  mkdirSync(join(folder, "directory.gguf"));
  const table: [string, RegExp][] = [
    [join(folder, "missing.gguf"), /does not exist/],
    [join(folder, "directory.gguf"), /directory/],
    [write("empty.gguf", new Uint8Array(0)), /not a GGUF/],
    [write("text.gguf", Buffer.from("once upon a time")), /not a GGUF/],
    [write("cut-header.gguf", bytes.subarray(0, 5_000)), /truncated/],
    [write("cut-weights.gguf", bytes.subarray(0, bytes.length - 1)), /truncated/],
    [write("old.gguf", Buffer.concat([Buffer.from("GGUF"), Buffer.of(1, 0, 0, 0)])), /version 1/],
  ];
  for (const [file, says] of table) {
    await assert.rejects(
      inspectGguf(file),
      (error) => isInvalidFile(error) && says.test(String(error)),
      file,
    );
  }
});

test("damaged headers give an error or a description, never a crash or a hang", async () => {
  const headerBytes = 60_000;
  const file = join(folder, "damaged.gguf");
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(headerBytes), fc.nat(255)), { minLength: 1, maxLength: 8 }),
      fc.option(fc.nat(bytes.length)),
      async (flips, cut) => {
        const copy = Buffer.from(bytes.subarray(0, cut ?? bytes.length));
        for (const [at, value] of flips) if (at < copy.length) copy[at] = value;
        writeFileSync(file, copy);
        await inspectGguf(file).catch((error: unknown) => assert.ok(isInvalidFile(error), String(error)));
      },
    ),
    { numRuns: 60 },
  );
});
