/** The path of a batch's lines: everybody's, with more patience, at its own price, in nobody's way. */
import { Decisions } from "../search/decisions.ts";
import type { Asker } from "../http/app.ts";
import type { Bill } from "../answers/answer-request.ts";
import type { CompleteDeps } from "../answers/complete.ts";
import { HedgeBudget } from "../attempts/hedge-budget.ts";
import type { ModelAccess } from "../requests/model-access.ts";
import { notOffered } from "../search/refusals.ts";
import { abortError } from "../../util/abort.ts";
import type { BatchOptions } from "./index.ts";
import type { BatchLine } from "./lines.ts";
import type { JobDeps } from "./job.ts";

/** A line that had to make room waits as long as that takes. */
const lineTimeoutMs: number = 24 * 3600_000;
const joinLookMs = 250;

type Line = Pick<BatchLine, "request">;
type LinePath = Pick<JobDeps, "answer" | "requireModel">;

export function createLinePath(
  deps: CompleteDeps,
  access: ModelAccess,
  { pricePercent, joinGraceMs }: BatchOptions,
): LinePath {
  const { clock, directory } = deps;
  const startMs = clock.monotonicMs();
  const path: CompleteDeps = {
    ...deps,
    // A cloud of last resort is for those who wait.
    cloud: null,
    hedges: new HedgeBudget(0),
    // Others ask why their requests went where they went: thousands of lines would push them out.
    decisions: new Decisions(clock, directory, deps.cloudPrice),
    limits: { ...deps.limits, requestTimeoutMs: lineTimeoutMs, queueTimeoutMs: lineTimeoutMs },
  };
  return {
    async answer({ request }: Line, asker: Asker, signal: AbortSignal) {
      const as = { model: access.resolve(asker.owner, request.model), feePercent: pricePercent };
      const abort = new AbortController();
      const onAbort = (): void => abort.abort(signal.reason);
      if (signal.aborted) onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        const { body, bill } = await request.answer(path, asker, as, abort);
        return { body, consumed: consumedOf(bill) };
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
    },
    async requireModel(owner: string, name: string, signal: AbortSignal) {
      const model = access.resolve(owner, name);
      const isKnown = (): boolean => directory.isOffered(model) || directory.wasKnown(model);
      while (!isKnown()) {
        if (clock.monotonicMs() - startMs > joinGraceMs) throw notOffered(directory, model);
        if (signal.aborted) throw abortError(signal);
        await new Promise<void>((resolve) => clock.schedule(joinLookMs, resolve));
      }
    },
  };
}

function consumedOf({ promptTokens, cachedTokens, outputTokens, feeAmount }: Bill) {
  return { inputTokens: promptTokens, cachedTokens, outputTokens, feeAmount };
}
