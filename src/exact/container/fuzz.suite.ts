/**
 * Hostile converted models and residual vectors: good ones with seeded damage, and ones that are true to themselves but hold what
 * nobody would convert. Each gives a model that both executors compute alike, or a SkeinError, in memory of its
 * file's order. A case is its seed.
 */
import assert from "node:assert/strict";
import { decode, encode, rfc8949EncodeOptions } from "cborg";
import { type ByteSource, memorySource } from "../../formats/byte-source.ts";
import { concatBytes, equalBytes } from "../../util/bytes.ts";
import { SkeinError } from "../../util/errors.ts";
import { packResidual, unpackResidual } from "../commitment/hidden.ts";
import type { ExactModel } from "../model/model.ts";
import { collectModel } from "../model/sink.ts";
import {
  type Dice,
  diceOfSeed,
  giveModel,
  randomModel,
  randomResidual,
  randomShape,
} from "../random-model.suite.ts";
import { createReferenceExecutor } from "../reference/executor.ts";
import { createTokenizer } from "../tokenizer/tokenizer.ts";
import { createWasmExecutor } from "../wasm/executor.ts";
import { type ContainerInfo, openContainer, readContainer } from "./container.ts";
import type { HeaderFields } from "./schema.ts";
import { containerOf, type ContainerParts, sha256, smallTokenizer, tensorBytesOf } from "./fixture.suite.ts";

/** Files have some ten kilobytes. */
const memoryBytesMax = 24 << 20;
const never = new AbortController().signal;

export interface FuzzOutcome {
  /** What was damaged, and how. */
  readonly what: string;
  /** The error's code, "opened", or "unpacked". */
  readonly outcome: string;
}

interface Subject {
  readonly parts: ContainerParts;
  readonly file: Uint8Array;
  readonly modelId: string;
}

const subjects: readonly Subject[] = await Promise.all(
  [1, 2, 3, 4].map(async (seed): Promise<Subject> => {
    const dice = diceOfSeed(seed);
    const quantization = seed === 4 ? "int4-group32" : "int8-row";
    const width = seed === 4 ? 32 : 16;
    const shape = randomShape(dice, {
      layers: 1,
      dim: width,
      ffnDim: width,
      headDim: 16,
      heads: 2,
      headsKv: 1,
      vocabularySize: 9,
    });
    const parts: ContainerParts = {
      quantization,
      shape,
      name: "m",
      tokenizer: smallTokenizer(seed === 1 ? "llama" : "gpt2", 8),
      chatTemplate: seed === 2 ? null : "{{ messages }}",
      tensors: await tensorBytesOf(await randomModel(dice, shape, "wild", quantization)),
    };
    const file = containerOf(parts);
    const { modelId } = await openContainer(memorySource("", file), sha256, never);
    return { parts, file, modelId };
  }),
);

/** @throws AssertionError, and whatever else a reader must not throw */
export async function runFuzzCase(seed: number): Promise<FuzzOutcome> {
  const dice = diceOfSeed(seed);
  const subject = dice.pick(subjects);
  const kind = dice.pick(["bytes", "bytes", "header", "parts", "tensors", "residual"] as const);
  if (kind === "residual") return { what: kind, outcome: unpackHostile(dice) };
  const file = hostileFile(kind, subject, dice);
  return { what: kind, outcome: await outcomeOf(subject, file, kind === "tensors" || kind === "parts") };
}

function hostileFile(
  kind: "bytes" | "header" | "parts" | "tensors",
  { parts, file }: Subject,
  dice: Dice,
): Uint8Array {
  switch (kind) {
    case "bytes":
      return damaged(file, dice);
    case "header":
      return withOtherHeader(file, (fields) => replaced(fields, dice));
    case "parts":
      return withOtherHeader(file, (fields) => withRightHashes(fields, dice));
    case "tensors": {
      const at = dice.whole(0, parts.tensors.length - 1);
      const bytes = parts.tensors[at]!.slice();
      for (let i = dice.whole(1, 40); i > 0; i--) bytes[dice.whole(0, bytes.length - 1)] = dice.whole(0, 255);
      return containerOf({ ...parts, tensors: parts.tensors.with(at, bytes) });
    }
  }
}

async function outcomeOf(subject: Subject, file: Uint8Array, isComputed: boolean): Promise<string> {
  const before = memoryBytes();
  const source = memorySource("hostile.skein", file);
  let outcome = "opened";
  try {
    const info = await openContainer(source, sha256, never);
    const model = await readModel(source, info);
    // What has the identity of the original is the original.
    if (info.modelId === subject.modelId) await assertSame(subject.parts, info, model);
    if (isComputed) await assertAgreed(model);
    createTokenizer(info.tokenizer).encode("ab a<|im_end|>é", { parseSpecial: true, addSpecial: true });
  } catch (error) {
    if (!(error instanceof SkeinError)) throw error;
    outcome = error.code;
    assert.ok(outcome === "invalid_model_file" || outcome === "unsupported_model", outcome);
    assert.ok(error.message.length < 2_000, "a message of the file's length");
  }
  const grown = memoryBytes() - before;
  assert.ok(grown < memoryBytesMax, `${grown} bytes of memory for ${file.length} bytes`);
  return outcome;
}

async function readModel(source: ByteSource, info: ContainerInfo): Promise<ExactModel> {
  const collected = collectModel(info.manifest.shape);
  await readContainer(source, info, sha256, collected, { signal: never });
  return collected.model();
}

async function assertSame(parts: ContainerParts, info: ContainerInfo, model: ExactModel): Promise<void> {
  assert.deepEqual(info.manifest.shape, parts.shape);
  assert.deepEqual(info.tokenizer, parts.tokenizer);
  assert.equal(info.chatTemplate ?? "", parts.chatTemplate ?? "");
  for (const [i, bytes] of (await tensorBytesOf(model)).entries()) {
    assert.ok(equalBytes(bytes, parts.tensors[i]!), `tensor ${i}`);
  }
}

/** Whatever numbers a file may hold, both executors make the same of them. */
async function assertAgreed(model: ExactModel): Promise<void> {
  const making = createWasmExecutor(model.shape, { contextTokensMax: 1 });
  await giveModel(model, making.sink);
  const [quick, plain] = [making.executor(), createReferenceExecutor(model)].map((executor) => {
    const row = { sequence: executor.newSequence(), input: 3, wantsLogits: true };
    return executor.step([row])[0]!;
  });
  assert.deepEqual(quick, plain);
}

function memoryBytes(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** One to three times: a bit, a byte, a number, or a piece is other than it was. */
function damaged(file: Uint8Array, dice: Dice): Uint8Array {
  let bytes = file.slice();
  for (let i = dice.whole(1, 3); i > 0 && bytes.length > 4; i--) {
    // Mostly in the header.
    const at = dice.whole(0, (dice.chance(0.8) ? Math.min(2_500, bytes.length) : bytes.length) - 4);
    const piece = bytes.subarray(at, at + dice.whole(1, 60));
    switch (dice.pick(["bit", "byte", "number", "cut", "missing", "repeated"] as const)) {
      case "bit":
        bytes[at]! ^= 1 << dice.whole(0, 7);
        break;
      case "byte":
        bytes[at] = dice.pick([dice.whole(0, 255), 0x9b, 0xbb, 0x5b, 0x7b, 0xfb, 0xff, 0xd8]);
        break;
      case "number":
        new DataView(bytes.buffer).setUint32(
          at,
          dice.pick([0, 1, 2 ** 31, 2 ** 32 - 1, dice.whole(0, 2 ** 32 - 1)]),
        );
        break;
      case "cut":
        bytes = bytes.slice(0, dice.whole(0, bytes.length));
        break;
      case "missing":
        bytes = concatBytes([bytes.subarray(0, at), bytes.subarray(at + piece.length)]);
        break;
      case "repeated":
        bytes = concatBytes([bytes.subarray(0, at), piece, bytes.subarray(at)]);
        break;
    }
  }
  return bytes;
}

/** Well-formed CBOR of the right length, with something in it that does not belong there. */
function withOtherHeader(file: Uint8Array, change: (fields: HeaderFields) => unknown): Uint8Array {
  const length = new DataView(file.buffer).getUint32(8, true);
  const fields = decode(file.subarray(12, 12 + length)) as HeaderFields;
  const header = encode(change(fields), rfc8949EncodeOptions);
  const start = Math.ceil((12 + header.length) / 64) * 64;
  const bytes = concatBytes([new Uint8Array(start), file.subarray(Math.ceil((12 + length) / 64) * 64)]);
  bytes.set(file.subarray(0, 8));
  new DataView(bytes.buffer).setUint32(8, header.length, true);
  bytes.set(header, 12);
  return bytes;
}

/** Another shape or tokenizer, and a manifest that commits to it. */
function withRightHashes(fields: HeaderFields, dice: Dice): unknown {
  const manifest = { ...fields.manifest };
  if (dice.chance(0.5))
    return { ...fields, manifest: { ...manifest, shape: replaced(manifest.shape, dice) } };
  const tokenizer = encode(replaced(decode(fields.tokenizer), dice), rfc8949EncodeOptions);
  return { ...fields, tokenizer, manifest: { ...manifest, tokenizer: sha256(tokenizer) } };
}

/** A copy of an object in which one value somewhere is another. */
function replaced(value: unknown, dice: Dice): unknown {
  const isInner = typeof value === "object" && value !== null && !ArrayBuffer.isView(value);
  if (!isInner) return hostileValue(value, dice);
  const entries = Object.entries(value);
  if (entries.length === 0 || dice.chance(0.03)) return hostileValue(value, dice);
  const at = dice.whole(0, entries.length - 1);
  const changed = entries.map(([key, own], i) => [key, i === at ? replaced(own, dice) : own] as const);
  if (Array.isArray(value)) return changed.map(([, own]) => own);
  return Object.fromEntries(dice.chance(0.05) ? changed.toSpliced(at, 1) : changed);
}

/** Sometimes of the same type, which gets further. */
function hostileValue(value: unknown, dice: Dice): unknown {
  if (typeof value === "boolean" && dice.chance(0.8)) return !value;
  if (typeof value === "number" && dice.chance(0.8)) {
    return dice.pick([
      0,
      1,
      2,
      15,
      16,
      17,
      32,
      48,
      256,
      272,
      65_536,
      2 ** 20,
      2 ** 31,
      2 ** 32,
      2 ** 47,
      2 ** 53 - 1,
      -1,
      value + 1,
    ]);
  }
  if (value instanceof Uint8Array && dice.chance(0.8)) {
    return dice.pick([
      value.slice(1),
      value.map((byte, i) => (i === 0 ? byte ^ 1 : byte)),
      new Uint8Array(0),
    ]);
  }
  if (typeof value === "string" && dice.chance(0.7)) {
    return dice.pick(["", "a", "ab", "<|im_end|>", "▁", "é", `${value} `, " ", "a b c", "x".repeat(500)]);
  }
  let deep: unknown = 1;
  for (let i = 0; i < 2_000; i++) deep = [deep];
  return dice.pick([
    null,
    "",
    [],
    {},
    -1,
    0.5,
    1e300,
    2n ** 63n,
    -(2n ** 64n),
    new Uint8Array(0),
    deep,
    true,
    "🦆",
    [[]],
  ]);
}

/** A packed residual vector that is not what it was: refused, or the one encoding of what it gives. */
function unpackHostile(dice: Dice): string {
  const dim = 16 * dice.whole(1, 9);
  const packed = damaged(packResidual(randomResidual(dice, dim)), dice);
  try {
    assert.ok(equalBytes(packResidual(unpackResidual(packed, dim)), packed));
    return "unpacked";
  } catch (error) {
    if (!(error instanceof SkeinError)) throw error;
    assert.equal(error.code, "invalid_request");
    return error.code;
  }
}
