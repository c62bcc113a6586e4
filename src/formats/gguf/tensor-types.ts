/** Name, and elements and bytes per block, of each ggml type (ggml.h and ggml-common.h of llama.cpp). */
const tensorTypes: Readonly<Record<number, readonly [name: string, elements: bigint, bytes: bigint]>> = {
  0: ["F32", 1n, 4n],
  1: ["F16", 1n, 2n],
  2: ["Q4_0", 32n, 18n],
  3: ["Q4_1", 32n, 20n],
  6: ["Q5_0", 32n, 22n],
  7: ["Q5_1", 32n, 24n],
  8: ["Q8_0", 32n, 34n],
  9: ["Q8_1", 32n, 36n],
  10: ["Q2_K", 256n, 84n],
  11: ["Q3_K", 256n, 110n],
  12: ["Q4_K", 256n, 144n],
  13: ["Q5_K", 256n, 176n],
  14: ["Q6_K", 256n, 210n],
  15: ["Q8_K", 256n, 292n],
  16: ["IQ2_XXS", 256n, 66n],
  17: ["IQ2_XS", 256n, 74n],
  18: ["IQ3_XXS", 256n, 98n],
  19: ["IQ1_S", 256n, 50n],
  20: ["IQ4_NL", 32n, 18n],
  21: ["IQ3_S", 256n, 110n],
  22: ["IQ2_S", 256n, 82n],
  23: ["IQ4_XS", 256n, 136n],
  24: ["I8", 1n, 1n],
  25: ["I16", 1n, 2n],
  26: ["I32", 1n, 4n],
  27: ["I64", 1n, 8n],
  28: ["F64", 1n, 8n],
  29: ["IQ1_M", 256n, 56n],
  30: ["BF16", 1n, 2n],
  34: ["TQ1_0", 256n, 54n],
  35: ["TQ2_0", 256n, 66n],
  39: ["MXFP4", 32n, 17n],
};

export function tensorTypeName(type: number): string {
  return tensorTypes[type]?.[0] ?? `type-${type}`;
}

/**
 * Bytes of a tensor; null for types that this table does not know yet, and undefined when rows are not whole
 * blocks.
 */
export function tensorBytes(type: number, shape: readonly number[]): bigint | null | undefined {
  const known = tensorTypes[type];
  if (known === undefined) return null;
  const [, elements, bytes] = known;
  if (BigInt(shape[0] ?? 1) % elements !== 0n) return undefined;
  return (elementsOf(shape) / elements) * bytes;
}

export function elementsOf(shape: readonly number[]): bigint {
  return shape.reduce((product, size) => product * BigInt(size), 1n);
}

/** Names of `general.file_type` (`llama_ftype` of llama.h): how a file was quantised as a whole. */
const fileTypes: Readonly<Record<number, string>> = {
  0: "F32",
  1: "F16",
  2: "Q4_0",
  3: "Q4_1",
  7: "Q8_0",
  8: "Q5_0",
  9: "Q5_1",
  10: "Q2_K",
  11: "Q3_K_S",
  12: "Q3_K_M",
  13: "Q3_K_L",
  14: "Q4_K_S",
  15: "Q4_K_M",
  16: "Q5_K_S",
  17: "Q5_K_M",
  18: "Q6_K",
  19: "IQ2_XXS",
  20: "IQ2_XS",
  21: "Q2_K_S",
  22: "IQ3_XS",
  23: "IQ3_XXS",
  24: "IQ1_S",
  25: "IQ4_NL",
  26: "IQ3_S",
  27: "IQ3_M",
  28: "IQ2_S",
  29: "IQ2_M",
  30: "IQ4_XS",
  31: "IQ1_M",
  32: "BF16",
  36: "TQ1_0",
  37: "TQ2_0",
  38: "MXFP4_MOE",
};

export function fileTypeName(fileType: number): string | null {
  return fileTypes[fileType] ?? null;
}
