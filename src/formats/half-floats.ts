/** Numbers in half precision (IEEE 754 binary16). */

let table: Float32Array | undefined;

/** The value of each of the 65536 of them, by its bits. */
export function halfFloats(): Float32Array {
  table ??= Float32Array.from({ length: 65_536 }, (_, bits) => {
    const sign = bits >= 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
  });
  return table;
}

/** The one whose two bytes begin at `at`, little-endian. */
export function halfAt(bytes: Uint8Array, at: number): number {
  return halfFloats()[bytes[at]! | (bytes[at + 1]! << 8)]!;
}
