/** How the exact engine rounds weights, as flags say it. */
import type { Quantization } from "../exact/model/model.ts";

const byBits: Readonly<Record<string, Quantization>> = { 8: "int8-row", 4: "int4-group32" };

export function quantizationOf(flags: Readonly<Record<string, unknown>>): Quantization {
  const bits = flags["bits"] as string | undefined;
  return (bits === undefined ? undefined : byBits[bits]) ?? "int8-row";
}
