/** What the store and its thread say to each other. */
import type { ErrorCode } from "../util/errors.ts";
import type { Batch, Scan } from "./port.ts";

export type ToThread = { readonly id: number } & (
  | { readonly type: "get"; readonly key: string; readonly nowMs: number }
  | { readonly type: "scan"; readonly scan: Scan; readonly nowMs: number }
  | { readonly type: "commit"; readonly batches: readonly Batch[]; readonly nowMs: number }
  | { readonly type: "sweep"; readonly limit: number; readonly nowMs: number }
  | { readonly type: "close" }
);

export type FromThread =
  | { readonly type: "opened" }
  | { readonly type: "answer"; readonly id: number; readonly result: unknown }
  | { readonly type: "error"; readonly id: number | null; readonly error: WireError };

export interface WireError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
}
