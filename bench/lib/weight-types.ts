/// <reference lib="esnext.float16" />
/** How weights are stored in model files, to the bit as ggml's reference code does it. */
import { decodeElements } from "../../src/formats/elements.ts";

export type WeightType = "F32" | "F16" | "BF16" | "Q8_0" | "Q4_0";

interface WeightFormat {
  /** Numbers of ggml's `ggml_type` and llama.cpp's `llama_ftype`. */
  readonly ggmlType: number;
  readonly fileType: number;
  readonly blockElements: number;
  readonly blockBytes: number;
}

export const weightFormats: Readonly<Record<WeightType, WeightFormat>> = {
  F32: { ggmlType: 0, fileType: 0, blockElements: 1, blockBytes: 4 },
  F16: { ggmlType: 1, fileType: 1, blockElements: 1, blockBytes: 2 },
  BF16: { ggmlType: 30, fileType: 32, blockElements: 1, blockBytes: 2 },
  Q8_0: { ggmlType: 8, fileType: 7, blockElements: 32, blockBytes: 34 },
  Q4_0: { ggmlType: 2, fileType: 2, blockElements: 32, blockBytes: 18 },
};

export function storedBytes(type: WeightType, elements: number): number {
  const { blockElements, blockBytes } = weightFormats[type];
  if (elements % blockElements !== 0) throw new RangeError(`${type} needs whole blocks, not ${elements}`);
  return (elements / blockElements) * blockBytes;
}

export function encodeWeights(type: WeightType, values: Float32Array): Uint8Array<ArrayBuffer> {
  switch (type) {
    case "F32":
      return new Uint8Array(Float32Array.from(values).buffer);
    case "F16":
      return new Uint8Array(Float16Array.from(values).buffer);
    case "BF16":
      return new Uint8Array(bfloat16Of(values).buffer);
    case "Q8_0":
      return quantizeQ8(values);
    case "Q4_0":
      return quantizeQ4(values);
  }
}

export function decodeWeights(type: WeightType, bytes: Uint8Array): Float32Array {
  // A copy, because typed arrays want their own alignment.
  const { buffer } = Uint8Array.from(bytes);
  switch (type) {
    case "F32":
      return new Float32Array(buffer);
    case "F16":
      return Float32Array.from(new Float16Array(buffer));
    case "BF16":
      return bfloat16Values(new Uint16Array(buffer));
    case "Q8_0":
      return dequantizeQ8(bytes);
    case "Q4_0":
      return dequantizeQ4(bytes);
  }
}

/** What is left of the values after storing them. */
export function roundedTo(type: WeightType, values: Float32Array): Float32Array {
  return type === "F32" ? values : decodeWeights(type, encodeWeights(type, values));
}

/** Round to nearest, ties to even; values are finite. */
function bfloat16Of(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(Float32Array.from(values).buffer);
  const upper = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) upper[i] = (bits[i]! + 0x7fff + ((bits[i]! >>> 16) & 1)) >>> 16;
  return upper;
}

function bfloat16Values(upper: Uint16Array): Float32Array {
  const bits = new Uint32Array(upper.length);
  for (let i = 0; i < upper.length; i++) bits[i] = upper[i]! << 16;
  return new Float32Array(bits.buffer);
}

const q8 = weightFormats.Q8_0;

/** `quantize_row_q8_0_ref`: its arithmetic is in single precision, hence the rounding after every step. */
function quantizeQ8(values: Float32Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(storedBytes("Q8_0", values.length));
  const scale = new Float16Array(1);
  const scaleBytes = new Uint8Array(scale.buffer);
  for (let from = 0, at = 0; from < values.length; from += q8.blockElements, at += q8.blockBytes) {
    let largest = 0;
    for (let i = from; i < from + q8.blockElements; i++) largest = Math.max(largest, Math.abs(values[i]!));
    const step = Math.fround(largest / 127);
    const inverse = step === 0 ? 0 : Math.fround(1 / step);
    scale[0] = step;
    bytes[at] = scaleBytes[0]!;
    bytes[at + 1] = scaleBytes[1]!;
    for (let i = 0; i < q8.blockElements; i++) {
      const scaled = Math.fround(values[from + i]! * inverse);
      // C's roundf: halves away from zero.
      bytes[at + 2 + i] = scaled < 0 ? -Math.floor(0.5 - scaled) : Math.floor(scaled + 0.5);
    }
  }
  return bytes;
}

function dequantizeQ8(bytes: Uint8Array): Float32Array {
  const values = new Float32Array((bytes.length / q8.blockBytes) * q8.blockElements);
  const scale = new Float16Array(1);
  const scaleBytes = new Uint8Array(scale.buffer);
  for (let at = 0, to = 0; at < bytes.length; at += q8.blockBytes, to += q8.blockElements) {
    scaleBytes[0] = bytes[at]!;
    scaleBytes[1] = bytes[at + 1]!;
    const step = scale[0]!;
    for (let i = 0; i < q8.blockElements; i++) values[to + i] = ((bytes[at + 2 + i]! << 24) >> 24) * step;
  }
  return values;
}

const q4 = weightFormats.Q4_0;

/** `quantize_row_q4_0_ref`: the largest weight becomes −8, whatever its sign; every step in single precision. */
function quantizeQ4(values: Float32Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(storedBytes("Q4_0", values.length));
  const scale = new Float16Array(1);
  const scaleBytes = new Uint8Array(scale.buffer);
  for (let from = 0, at = 0; from < values.length; from += q4.blockElements, at += q4.blockBytes) {
    let largest = 0;
    for (let i = from; i < from + q4.blockElements; i++) {
      if (Math.abs(values[i]!) > Math.abs(largest)) largest = values[i]!;
    }
    const step = Math.fround(largest / -8);
    const inverse = step === 0 ? 0 : Math.fround(1 / step);
    scale[0] = step;
    bytes.set(scaleBytes, at);
    const nibble = (i: number): number =>
      Math.min(15, Math.trunc(Math.fround(Math.fround(values[i]! * inverse) + 8.5)));
    for (let i = 0; i < 16; i++) bytes[at + 2 + i] = nibble(from + i) | (nibble(from + 16 + i) << 4);
  }
  return bytes;
}

function dequantizeQ4(bytes: Uint8Array): Float32Array {
  const values = new Float32Array((bytes.length / q4.blockBytes) * q4.blockElements);
  decodeElements("Q4_0", bytes, values);
  return values;
}
