/** How the exact engine rounds weights, as flags say it. */
import type { Quantization } from "../exact/model/model.ts";

const byBits: Readonly<Record<string, Quantization>> = { 8: "int8-row", 4: "int4-group32" };

/** Undefined where nobody asks: then models are converted with eight bits, and converted ones are what they are. */
export function quantizationOf(flags: Readonly<Record<string, unknown>>): Quantization | undefined {
  const bits = flags["bits"] as string | undefined;
  return bits === undefined ? undefined : byBits[bits];
}

/** The same as an option that may be missing. */
export function quantizationOption(flags: Readonly<Record<string, unknown>>): {
  readonly quantization?: Quantization;
} {
  const quantization = quantizationOf(flags);
  return quantization === undefined ? {} : { quantization };
}
