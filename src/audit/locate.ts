/** Which number of an answer is wrong: the provider's own commitments, position by position, then layer by layer. */
import type { KnownRows } from "../exact/commitment/difference.ts";
import type { Sha256 } from "../exact/commitment/commitment.ts";
import type { Traced, TraceRequest } from "../protocol/generate.ts";
import { openTrace } from "../receipt/opened-trace.ts";
import type { SignedReceipt } from "../receipt/receipt.ts";
import type { Fault } from "../receipt/replay.ts";

/** Asks the provider of an answer; see `ProviderSession.trace`. */
export type AskTrace = (request: TraceRequest) => Promise<Traced>;

/**
 * Checks the answer again with what its provider gives out.
 * @param verify computes the answer again, see `verifyAnswer`; returns what is wrong
 * @throws SkeinError when the provider gives nothing, or not what it signed
 */
export async function locateFault(
  sha256: Sha256,
  { receipt }: SignedReceipt,
  tokenIds: readonly number[],
  ask: AskTrace,
  verify: (known: KnownRows) => Promise<Fault | null> | Fault | null,
): Promise<Fault | null> {
  const { modelId, sequence, execution } = receipt;
  if (execution === null) return null;
  const asked = { modelId, sequence, tokenIds };
  const rows = openTrace(sha256, execution, await ask({ ...asked, position: null }), null);
  const first = await verify(rows);
  if (first?.kind !== "numbers") return first;
  const { position } = first;
  const traced = await ask({ ...asked, position });
  return verify(openTrace(sha256, execution, traced, position));
}
