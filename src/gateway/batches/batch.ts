/** A batch as it is kept, and as OpenAI shows it. */
import type { Change } from "../../store/port.ts";
import { nanoToUsd } from "../../protocol/price.ts";
import { ownerPart, putJson } from "../kept/records.ts";

export type BatchStatus =
  | "validating"
  | "failed"
  | "in_progress"
  | "finalizing"
  | "completed"
  | "expired"
  | "cancelling"
  | "cancelled";

export interface BatchError {
  readonly code: string;
  readonly message: string;
  readonly param: string | null;
  readonly line: number | null;
}

export interface Counts {
  readonly total: number;
  readonly completed: number;
  readonly failed: number;
}

/** What its lines consumed. */
export interface Consumed {
  readonly inputTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly feeAmount: bigint;
}

export const nothingConsumed: Consumed = { inputTokens: 0, cachedTokens: 0, outputTokens: 0, feeAmount: 0n };

/** All of it is JSON. */
export interface Batch {
  readonly id: string;
  readonly owner: string;
  readonly endpoint: string;
  readonly inputFileId: string;
  readonly completionWindow: string;
  readonly metadata: Readonly<Record<string, string>> | null;
  readonly outputLifetimeMs: number | null;
  readonly status: BatchStatus;
  readonly createdMs: number;
  readonly expiresMs: number;
  /** When it came into each status. */
  readonly sinceMs: Readonly<Partial<Record<BatchStatus, number>>>;
  readonly errors: readonly BatchError[];
  readonly counts: Counts;
  readonly consumed: Omit<Consumed, "feeAmount"> & { readonly feeAmount: string };
  readonly model: string | null;
  readonly outputFileId: string | null;
  readonly errorFileId: string | null;
}

export function batchKey(owner: string, id: string): string {
  return `batch/${ownerPart(owner)}/${id}`;
}

/** There while work on a batch remains. */
export function activeKey(id: string): string {
  return `batch-active/${id}`;
}

/** There while results remain of a batch that has ended. */
export function cleanupKey(id: string): string {
  return `batch-cleanup/${id}`;
}

export function lineKey(id: string, number: number): string {
  return `batch-line/${id}/${String(number).padStart(8, "0")}`;
}

export const finalStatuses: ReadonlySet<BatchStatus> = new Set([
  "failed",
  "completed",
  "expired",
  "cancelled",
]);

/** @param expiresMs when the record goes away; null: not yet */
export function putBatch(batch: Batch, expiresMs: number | null): Change {
  return putJson(batchKey(batch.owner, batch.id), batch, expiresMs);
}

export function withConsumed(batch: Batch, consumed: Consumed): Batch {
  return { ...batch, consumed: { ...consumed, feeAmount: consumed.feeAmount.toString() } };
}

export function inStatus(batch: Batch, status: BatchStatus, nowMs: number): Batch {
  return { ...batch, status, sinceMs: { ...batch.sinceMs, [status]: nowMs } };
}

export function batchView(batch: Batch) {
  const { sinceMs, consumed } = batch;
  const at = (status: BatchStatus): number | null => seconds(sinceMs[status]);
  return {
    id: batch.id,
    object: "batch" as const,
    endpoint: batch.endpoint,
    model: batch.model,
    errors: batch.errors.length === 0 ? null : { object: "list", data: batch.errors },
    input_file_id: batch.inputFileId,
    completion_window: batch.completionWindow,
    status: batch.status,
    output_file_id: batch.outputFileId,
    error_file_id: batch.errorFileId,
    created_at: Math.floor(batch.createdMs / 1000),
    in_progress_at: at("in_progress"),
    expires_at: Math.floor(batch.expiresMs / 1000),
    finalizing_at: at("finalizing"),
    completed_at: at("completed"),
    failed_at: at("failed"),
    expired_at: at("expired"),
    cancelling_at: at("cancelling"),
    cancelled_at: at("cancelled"),
    request_counts: batch.counts,
    usage: {
      input_tokens: consumed.inputTokens,
      input_tokens_details: { cached_tokens: consumed.cachedTokens },
      output_tokens: consumed.outputTokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: consumed.inputTokens + consumed.outputTokens,
      fee: {
        amount: consumed.feeAmount,
        unit: "nanoUSD" as const,
        usd: nanoToUsd(BigInt(consumed.feeAmount)),
      },
    },
    metadata: batch.metadata,
  };
}

function seconds(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.floor(ms / 1000);
}
