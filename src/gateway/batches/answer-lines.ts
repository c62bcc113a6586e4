/** The path of a batch's lines: everybody's, with more patience, at its own price, in nobody's way. */
import { Decisions } from "../search/decisions.ts";
import type { Asker } from "../http/app.ts";
import { billOf } from "../answers/answer-request.ts";
import { type CompleteDeps, startAnswer } from "../answers/complete.ts";
import { HedgeBudget } from "../attempts/hedge-budget.ts";
import type { ModelAccess } from "../requests/model-access.ts";
import type { CompletionRequest } from "../requests/parse-request.ts";
import { notOffered } from "../search/refusals.ts";
import { abortError } from "../../util/abort.ts";
import { ignore } from "../../util/sink.ts";
import { batchEndpoints } from "./endpoints.ts";
import type { BatchOptions } from "./index.ts";
import type { BatchLine } from "./lines.ts";
import type { JobDeps } from "./job.ts";

/** A line that had to make room waits as long as that takes. */
const lineTimeoutMs: number = 24 * 3600_000;
const joinLookMs = 250;

type Line = Pick<BatchLine, "request" | "body">;
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
  const resolved = (request: CompletionRequest, owner: string): CompletionRequest => ({
    ...request,
    model: access.resolve(owner, request.model),
    feePercent: pricePercent,
  });
  return {
    async answer(line: Line, endpoint: string, asker: Asker, signal: AbortSignal) {
      const request = resolved(line.request, asker.owner);
      const abort = new AbortController();
      const onAbort = (): void => abort.abort(signal.reason);
      if (signal.aborted) onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        const { frame, run } = startAnswer(path, request, { ...asker, isBatch: true }, abort);
        const ends = await run(ignore);
        const body = batchEndpoints[endpoint]!.render(line.body, frame, ends);
        return { body, consumed: consumedOf(billOf(request, ends)) };
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

function consumedOf({ promptTokens, cachedTokens, outputTokens, feeAmount }: ReturnType<typeof billOf>) {
  return { inputTokens: promptTokens, cachedTokens, outputTokens, feeAmount };
}
