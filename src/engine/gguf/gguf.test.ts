import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { SkeinError } from "../../util/errors.ts";
import {
  gguf,
  entry,
  smallModel,
  string,
  stringValue,
  tensorInfo,
  tinyBytes,
  tinyModel,
  u32,
  u32Value,
  u64,
  writeGguf,
} from "../../formats/gguf/fixture.suite.ts";
import { merkleRoot, modelIdOfGguf } from "./identity.ts";
import { inspectGguf, nameOf } from "./inspect.ts";

const folder = mkdtempSync(join(tmpdir(), "skein-gguf-"));
after(() => rmSync(folder, { recursive: true }));
const never = new AbortController().signal;
const bytes = tinyBytes;
const isInvalidFile = (error: unknown): boolean =>
  error instanceof SkeinError && error.code === "invalid_model_file";

function write(name: string, content: Uint8Array): string {
  const file = join(folder, name);
  writeFileSync(file, content);
  return file;
}

const small = smallModel();
const { metadata, tensors } = small;

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
  assert.deepEqual([info.quantization, info.tensorCount, info.fileBytes], ["Q8_0", 56, bytes.length]);
  assert.ok(info.parameters > 5_000_000n && info.parameters < 5_500_000n);
});

test("special tokens are what the tokenizer parses as such, and what it will treat as such", async () => {
  const names = ["a", "<s>", "<unk>", "<think>", "<|im_end|>", "<end_of_turn>", "</s>", "<b>"];
  const types = [1, 3, 2, 4, 4, 1, 1, 1];
  const list = (type: number, elements: Buffer[]) => ({
    type: 9,
    bytes: Buffer.concat([u32(type), u64(elements.length), ...elements]),
  });
  const values = [
    ["general.architecture", stringValue("llama")],
    ["tokenizer.chat_template", stringValue("x")],
    ["tokenizer.ggml.tokens", list(8, names.map(string))],
    ["tokenizer.ggml.token_type", list(5, types.map(u32))],
    ["tokenizer.ggml.eos_token_id", u32Value(6)],
    ["tokenizer.ggml.bos_token_id", u32Value(4_000_000_000)],
  ] as const;
  const { chatTemplate } = await inspectGguf(write("special.gguf", writeGguf({ metadata: values, tensors })));
  assert.deepEqual(chatTemplate, {
    source: "x",
    bosToken: "",
    eosToken: "</s>",
    specialTokens: ["<s>", "<unk>", "<|im_end|>", "<end_of_turn>", "</s>"],
  });
});

test("names are what clients type, the same for every quantisation", () => {
  assert.equal(nameOf("/x/Qwen2.5-7B-Instruct-Q4_K_M.gguf"), "qwen2.5-7b-instruct");
  assert.equal(nameOf("tiny.F16.gguf"), "tiny");
  assert.equal(nameOf("large-Q8_0-00001-of-00002.gguf"), "large");
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
  const [cacheFile] = readdirSync(cacheFolder);
  assert.equal(readdirSync(cacheFolder).length, 1);
  if (process.platform !== "win32") assert.equal(statSync(join(cacheFolder, cacheFile!)).mode & 0o777, 0o600);
  const changed = Buffer.from(bytes);
  changed[bytes.length - 100]! ^= 1;
  writeFileSync(file, changed);
  utimesSync(file, 1, 1);
  assert.notEqual(await modelIdOfGguf(file, options), first);
  assert.ok(progress.length > 10 && progress.at(-1)! > 5_000_000, "progress is told");
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

test("hashing ends when it is cancelled", async () => {
  const abort = new AbortController();
  const onProgress = (): void => abort.abort();
  await assert.rejects(
    modelIdOfGguf(tinyModel, { cacheFolder: null, signal: abort.signal, onProgress }),
    (error) => error instanceof SkeinError && error.code === "cancelled",
  );
});

test("a cache that cannot be written does no harm", async () => {
  const cacheFolder = join(write("file", Buffer.of(1)), "below");
  assert.match(await modelIdOfGguf(tinyModel, { cacheFolder, signal: never }), /^gguf-sha256:/);
});

test("layout does not change an identity", async () => {
  const plain = await identityOf(write("plain.gguf", writeGguf(small)));
  const same = async (what: string, content: Buffer): Promise<void> =>
    assert.equal(await identityOf(write("layout.gguf", content)), plain, what);
  await same("order", writeGguf({ metadata: metadata.toReversed(), tensors: tensors.toReversed() }));
  const more = [
    ["general.url", stringValue("x")],
    ["quantize.imatrix.file", stringValue("y")],
  ] as const;
  await same("other metadata", writeGguf({ tensors, metadata: [...metadata, ...more] }));
  const wide = [...metadata, ["general.alignment", u32Value(256)]] as const;
  await same("padding", writeGguf({ tensors, metadata: wide }, 256));
});

test("everything that changes an answer changes the identity", async () => {
  const variants: [string, Buffer][] = [["nothing", writeGguf(small)]];
  const vary = (what: string, changed: Partial<typeof small>): void =>
    void variants.push([what, writeGguf({ ...small, ...changed })]);
  const replaced = (key: string, value: (typeof metadata)[number][1]): typeof metadata =>
    metadata.map((pair) => (pair[0] === key ? [key, value] : pair));
  const [first, second, ...rest] = tensors;
  vary("tensor missing", { tensors: tensors.slice(1) });
  vary("tensor name", { tensors: [{ ...first!, name: "other" }, second!, ...rest] });
  vary("tensor shape", { tensors: [{ ...first!, shape: [96] }, second!, ...rest] });
  vary("tensor type", { tensors: [{ ...first!, type: 24, shape: [102] }, second!, ...rest] });
  vary("swapped data", {
    tensors: [{ ...first!, data: second!.data }, { ...second!, data: first!.data }, ...rest],
  });
  vary("value", { metadata: replaced("llama.rope.freq_base", { type: 6, bytes: u32(7) }) });
  vary("type of a value", { metadata: replaced("llama.rope.freq_base", u32Value(7)) });
  vary("another key", { metadata: [...metadata, ["llama.something", u32Value(1)]] });
  vary("tokens", { metadata: [...metadata, ["tokenizer.ggml.other", u32Value(1)]] });
  vary("template", { metadata: replaced("tokenizer.chat_template", stringValue("{{ messages }}")) });
  assert.ok(metadata.some(([key]) => key === "llama.rope.freq_base"));
  const identities = new Map<string, string>();
  for (const [what, content] of variants) {
    const identity = await identityOf(write("variant.gguf", content));
    assert.equal(identities.get(identity), undefined, what);
    identities.set(identity, what);
  }
});

test("a model in parts is the same model, and each part must be there", async () => {
  const part = (number: number, some: typeof tensors): string => {
    const split = [
      ["split.no", { type: 2, bytes: Buffer.of(number, 0) }],
      ["split.count", { type: 2, bytes: Buffer.of(2, 0) }],
    ] as const;
    const own = number === 0 ? [...metadata, ...split] : split;
    return write(`m-0000${number + 1}-of-00002.gguf`, writeGguf({ metadata: own, tensors: some }));
  };
  const first = part(0, tensors.slice(0, 5));
  await assert.rejects(inspectGguf(first), /m-00002-of-00002.gguf does not exist/);
  const second = part(1, tensors.slice(5));
  assert.equal(await identityOf(first), await identityOf(write("whole.gguf", writeGguf(small))));
  assert.equal((await inspectGguf(first)).tensorCount, tensors.length);
  await assert.rejects(inspectGguf(second), /part of a model in 2 files/);
  part(1, tensors.slice(4));
  await assert.rejects(inspectGguf(first), /in two of its parts/);
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
  const model = (...infos: Buffer[]): Buffer =>
    gguf(infos.length, 1, entry("general.architecture", stringValue("llama")), ...infos, Buffer.alloc(1_000));
  const vocabulary = { type: 9, bytes: Buffer.concat([u32(8), u64(1), string("a")]) };
  table.push(
    [write("no-tensors.gguf", gguf(0, 0)), /no tensors/],
    [write("no-vocabulary.gguf", model(tensorInfo("t", [32], 0, 0))), /no vocabulary/],
    [write("beyond.gguf", model(tensorInfo("t", [2 ** 40, 2 ** 40], 0, 0))), /truncated: tensor t/],
    [write("far.gguf", model(tensorInfo("t", [32], 8, 2 ** 40))), /truncated: tensor t/],
    [write("far-new.gguf", model(tensorInfo("t", [32], 99, 2 ** 40))), /truncated: tensor t/],
    [write("row.gguf", model(tensorInfo("t", [33], 8, 0))), /broken blocks/],
    [
      write(
        "long-template.gguf",
        gguf(
          1,
          3,
          entry("general.architecture", stringValue("llama")),
          entry("tokenizer.ggml.tokens", vocabulary),
          entry("tokenizer.chat_template", stringValue("x".repeat(200_001))),
          tensorInfo("t", [32], 0, 0),
          Buffer.alloc(1_000),
        ),
      ),
      /chat template of 200001/,
    ],
  );
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
