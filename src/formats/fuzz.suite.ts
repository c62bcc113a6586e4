/**
 * Hostile model files: good ones with seeded damage. Each must give a model that can be read whole, or a SkeinError,
 * in memory of the files' order. A case is its seed.
 */
import assert from "node:assert/strict";
import { type Random, seededRandom } from "../util/random.ts";
import { SkeinError } from "../util/errors.ts";
import { type ByteSource, memorySource } from "./byte-source.ts";
import { f32Value, stringValue, u32Value } from "./gguf/fixture.suite.ts";
import { openGgufModel } from "./gguf/source.ts";
import {
  configOf,
  type FixtureModel,
  fixtureTensors,
  ggufOf,
  never,
  readAll,
  shardOf,
  smallLlama,
} from "./model-fixture.suite.ts";
import type { ModelSource } from "./model-source.ts";
import { openSafetensorsModel } from "./safetensors/source.ts";

/** A model of tens of kilobytes needs some hundreds; a hostile length may ask for gigabytes. */
const heapBytesMax = 24 << 20;

interface Subject {
  readonly files: Readonly<Record<string, Buffer>>;
  readonly open: (files: readonly ByteSource[]) => Promise<ModelSource>;
}

export interface FuzzOutcome {
  /** What was damaged, and how. */
  readonly what: string;
  /** The error's code, or "opened". */
  readonly outcome: string;
}

function ggufSubject(model: FixtureModel): Subject {
  const scaling = {
    "rope.scaling.type": stringValue("yarn"),
    "rope.scaling.factor": f32Value(4),
    "tokenizer.chat_template": stringValue("{{ messages }}"),
  };
  const split = (number: number): object => ({ "split.no": u32Value(number), "split.count": u32Value(2) });
  const tensors = fixtureTensors(model);
  const parts = [tensors.slice(0, 9), tensors.slice(9)];
  return {
    files:
      model.architecture === "qwen2"
        ? Object.fromEntries(parts.map((part, i) => [`part ${i}`, ggufOf(model, split(i) as never, part)]))
        : { gguf: ggufOf(model, scaling) },
    open: (files) => openGgufModel(files, never),
  };
}

function safetensorsSubject(model: FixtureModel): Subject {
  const tensors = fixtureTensors(model);
  const halves = [tensors.slice(0, 9), tensors.slice(9)];
  const weightMap = halves.flatMap((some, i) => some.map(({ huggingFace }) => [huggingFace, `shard ${i}`]));
  const config = configOf(model, { rope_scaling: { rope_type: "yarn", factor: 4 } });
  return {
    files: {
      config: Buffer.from(JSON.stringify(config)),
      index: Buffer.from(JSON.stringify({ weight_map: Object.fromEntries(weightMap) as unknown })),
      ...Object.fromEntries(halves.map((some, i) => [`shard ${i}`, shardOf(model, some)])),
    },
    open: ([configFile, index, ...shards]) =>
      openSafetensorsModel({ config: configFile!, index: index!, shards }, never),
  };
}

const tiny: FixtureModel = { ...smallLlama, layers: 1, ffnDim: 32 };
const subjects: readonly Subject[] = [
  ggufSubject({ ...tiny, type: "F32" }),
  ggufSubject({ ...tiny, architecture: "qwen2", type: "Q8_0" }),
  ggufSubject({ ...tiny, architecture: "qwen3", isTied: false }),
  safetensorsSubject({ ...tiny, type: "F32" }),
  safetensorsSubject({ ...tiny, architecture: "qwen2", type: "BF16" }),
  safetensorsSubject({ ...tiny, architecture: "mistral", isTied: false }),
];

/** @throws AssertionError, and whatever else a reader must not throw */
export async function runFuzzCase(seed: number): Promise<FuzzOutcome> {
  const random = seededRandom(seed);
  const subject = pick(random, subjects);
  const names = Object.keys(subject.files);
  const victim = pick(random, names);
  const rounds = 1 + Math.floor(random.next() * 3);
  let bytes = Buffer.from(subject.files[victim]!);
  const what: string[] = [victim];
  for (let i = 0; i < rounds; i++) {
    const [name, damage] = pick(random, damages);
    what.push(name);
    bytes = Buffer.from(damage(bytes, random));
  }
  const sources = names.map((name) => memorySource(name, name === victim ? bytes : subject.files[name]!));
  return { what: what.join(", "), outcome: await outcomeOf(subject, sources) };
}

async function outcomeOf(subject: Subject, sources: readonly ByteSource[]): Promise<string> {
  const fileBytes = sources.reduce((sum, { size }) => sum + size, 0);
  const before = memoryBytes();
  let outcome = "opened";
  try {
    const model = await subject.open(sources);
    assert.ok(model.parameters <= BigInt(fileBytes), "more parameters than bytes");
    assert.ok(model.shape.ropeFrequencies.every((one) => Number.isFinite(one) && one > 0));
    for (const [, rows] of await readAll(model)) assert.ok(rows.every(Number.isFinite));
  } catch (error) {
    if (!(error instanceof SkeinError)) throw error;
    outcome = error.code;
    assert.ok(outcome === "invalid_model_file" || outcome === "unsupported_model", outcome);
    assert.ok(error.message.length < 2_000, "a message of the file's length");
  }
  const grown = memoryBytes() - before;
  assert.ok(grown < heapBytesMax, `${grown} bytes of memory for ${fileBytes} bytes of files`);
  return outcome;
}

function memoryBytes(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function pick<T>(random: Random, list: readonly T[]): T {
  return list[Math.floor(random.next() * list.length)]!;
}

/** Mostly near the beginning, where headers are. */
function place(bytes: Buffer, random: Random): number {
  const reach = random.next() < 0.8 ? Math.min(bytes.length, 4_000) : bytes.length;
  return Math.floor(random.next() * reach);
}

const numbers = [
  0n,
  1n,
  2n,
  31n,
  255n,
  65_536n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];
const texts = [
  "0",
  "-1",
  "1e999",
  "1e308",
  "null",
  '""',
  "[]",
  "{}",
  "9007199254740993",
  "0.5",
  "true",
  '"F32"',
];

type Damage = (bytes: Buffer, random: Random) => Buffer;

const damages: readonly (readonly [string, Damage])[] = [
  [
    "flipped bit",
    (bytes, random) => {
      const at = place(bytes, random);
      if (at < bytes.length) bytes[at]! ^= 1 << Math.floor(random.next() * 8);
      return bytes;
    },
  ],
  [
    "any byte",
    (bytes, random) => {
      if (bytes.length > 0) bytes[place(bytes, random)] = Math.floor(random.next() * 256);
      return bytes;
    },
  ],
  [
    "odd number",
    (bytes, random) => {
      const width = random.next() < 0.5 ? 4 : 8;
      const at = place(bytes, random);
      if (at + width > bytes.length) return bytes;
      const number = pick(random, numbers);
      if (width === 4) bytes.writeUInt32LE(Number(number & 0xffff_ffffn), at);
      else bytes.writeBigUInt64LE(number, at);
      return bytes;
    },
  ],
  ["cut", (bytes, random) => Buffer.from(bytes.subarray(0, place(bytes, random)))],
  [
    "missing piece",
    (bytes, random) => {
      const at = place(bytes, random);
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + Math.floor(random.next() * 40))]);
    },
  ],
  [
    "repeated piece",
    (bytes, random) => {
      const at = place(bytes, random);
      const end = at + 1 + Math.floor(random.next() * 200);
      return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
    },
  ],
  [
    "swapped pieces",
    (bytes, random) => {
      const length = 1 + Math.floor(random.next() * 32);
      const [a, b] = [place(bytes, random), place(bytes, random)];
      const copy = Buffer.from(bytes);
      bytes.copy(copy, a, b, b + length);
      bytes.copy(copy, b, a, a + length);
      return copy;
    },
  ],
  [
    "other number in a text",
    (bytes, random) => {
      const text = bytes.toString("latin1");
      const found = [...text.slice(0, 8_000).matchAll(/-?\d+(?:\.\d+)?|true|false|null/g)];
      if (found.length === 0) return bytes;
      const match = pick(random, found);
      const end = match.index + match[0].length;
      return Buffer.from(text.slice(0, match.index) + pick(random, texts) + text.slice(end), "latin1");
    },
  ],
];
