/**
 * Planted faults keep auditors awake: now and then an auditor is given a wrong receipt on purpose, and one that passes it
 * was not checking. Which audits are planted follows from a secret that is committed to beforehand and shown
 * afterwards, so that nobody can call a real failure planted, or the other way round.
 */
import { equalBytes, sha256, utf8 } from "../util/bytes.ts";
import { type AuditShare, isSelected } from "./selection.ts";
import type { Finding, Outcome } from "./verdict.ts";

/** What is changed in a receipt that is otherwise right. */
export type Fault = "token" | "layer" | "logits";
const faults: readonly Fault[] = ["token", "layer", "logits"];

export interface Planted {
  readonly fault: Fault;
  /** Index in prompt and answer together, as in findings. */
  readonly position: number;
}

/** Published before a period of audits begins. */
export function commitPlanting(secret: Uint8Array): Promise<Uint8Array> {
  return sha256(utf8("skein-planting-v1\0"), secret);
}

/**
 * Whether the audit of a receipt is a planted one, and what is wrong in it; null: the receipt goes out as it is.
 * A pure function: whoever learns the secret can check every decision of the period.
 *
 * @param positions of prompt and answer, at least one
 */
export async function plantedFault(
  secret: Uint8Array,
  receiptHash: Uint8Array,
  share: AuditShare,
  positions: number,
): Promise<Planted | null> {
  if (!Number.isInteger(positions) || positions < 1) throw new RangeError(`no positions: ${positions}`);
  const key = await sha256(utf8("skein-planting-key-v1\0"), secret);
  if (!(await isSelected(key, receiptHash, share))) return null;
  const draw = await sha256(utf8("skein-planting-fault-v1\0"), key, receiptHash);
  const view = new DataView(draw.buffer);
  return {
    fault: faults[view.getUint32(0) % faults.length]!,
    position: view.getUint32(4) % positions,
  };
}

/** Shown when a period is over. */
export interface PlantingRecord {
  readonly secret: Uint8Array;
  readonly share: AuditShare;
  /** Every audit of the period that was planted. */
  readonly planted: readonly { readonly receiptHash: Uint8Array; readonly positions: number }[];
}

/** Whether a record is what was committed to, and every fault in it follows from the secret. */
export async function checkPlanting(commitment: Uint8Array, record: PlantingRecord): Promise<boolean> {
  if (!equalBytes(await commitPlanting(record.secret), commitment)) return false;
  for (const { receiptHash, positions } of record.planted) {
    if ((await plantedFault(record.secret, receiptHash, record.share, positions)) === null) return false;
  }
  return true;
}

export type Wakefulness =
  | "found"
  /** Said that it fails, but not where: chance, or a guess. */
  | "guessed"
  /** Passed a receipt that was wrong. */
  | "asleep"
  | "unable";

/** What an auditor's verdict on a planted fault says about the auditor. */
export function wakefulness(planted: Planted, outcome: Outcome): Wakefulness {
  if (outcome.result === "unable") return "unable";
  if (outcome.result === "pass") return "asleep";
  return isFound(planted, outcome.finding) ? "found" : "guessed";
}

function isFound({ fault, position }: Planted, finding: Finding): boolean {
  return finding.kind === fault && finding.position === position;
}
