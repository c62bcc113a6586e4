/** The numbers that kernels look up. Only who makes a memory needs them: to compute them takes longer than to start a thread. */
import { exp2Table, sigmoidTable } from "../ops/tables.ts";
import type { KernelTables } from "./kernels.ts";

export const kernelTables: KernelTables = {
  exp2: exp2Table,
  // And what is beyond the table.
  sigmoid: Int32Array.from([...sigmoidTable, 2 ** 15]),
  hashWords: sha256Words(),
};

/** FIPS 180-4, 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
function sha256Words(): Int32Array {
  return Int32Array.from(primes(64), (prime) => Number(BigInt.asIntN(32, cubeRoot(BigInt(prime) << 96n))));
}

function primes(count: number): number[] {
  const found: number[] = [];
  for (let n = 2; found.length < count; n++) if (found.every((prime) => n % prime !== 0)) found.push(n);
  return found;
}

/** Rounded down; below 2^36. */
function cubeRoot(value: bigint): bigint {
  let root = 0n;
  for (let bit = 1n << 35n; bit > 0n; bit >>= 1n) if ((root + bit) ** 3n <= value) root += bit;
  return root;
}
