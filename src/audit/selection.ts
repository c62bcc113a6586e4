/**
 * Which receipts are audited: H(beacon | receiptHash) < p · 2^256. The beacon is made after receipts were committed, so
 * nobody knows while serving which answers will be checked, and no receipt can be ground against the choice.
 */
import { sha256 } from "../util/bytes.ts";

/** Bytes of hashes and beacons. */
export const hashBytes = 32;

/** A probability as a whole number of 2^−32: comparisons are exact, also where there are no floating-point numbers. */
export type AuditShare = number;
export const shareOne: AuditShare = 2 ** 32;
const hashBits = 256n;
const shareBits = 32n;

/** The smallest share that is at least `probability` (0 to 1): a rate that was promised is not rounded away. */
export function auditShare(probability: number): AuditShare {
  if (!(probability >= 0 && probability <= 1)) throw new RangeError(`not a probability: ${probability}`);
  return Math.ceil(probability * shareOne);
}

/** Whether a receipt is audited. Anyone who knows beacon, receipt and share finds the same. */
export async function isSelected(
  beacon: Uint8Array,
  receiptHash: Uint8Array,
  share: AuditShare,
): Promise<boolean> {
  // Both have one length: no other pair gives the same bytes.
  for (const bytes of [beacon, receiptHash]) {
    if (bytes.length !== hashBytes)
      throw new RangeError(`a hash has ${hashBytes} bytes, not ${bytes.length}`);
  }
  if (!Number.isInteger(share) || share < 0 || share > shareOne) throw new RangeError(`no share: ${share}`);
  return wholeNumber(await sha256(beacon, receiptHash)) < BigInt(share) << (hashBits - shareBits);
}

/** Bytes as a number, the first the highest: as contracts read hashes. */
function wholeNumber(bytes: Uint8Array): bigint {
  return bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}
