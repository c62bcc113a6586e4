/** Counts what a provider does, for the person who runs it. */
import type { RequestHandler } from "../../network/session.ts";
import type { GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";

export interface Totals {
  /** Requests that are generated or wait now. */
  readonly active: number;
  readonly completed: number;
  readonly failed: number;
  readonly tokens: number;
}

export interface Meter {
  /** The same handler; what goes through it is counted. */
  metered(handler: RequestHandler): RequestHandler;
  totals(): Totals;
}

/** A gateway's own question when a provider joins; nobody asked it. */
const probeRequestId = "probe";

export function createMeter(): Meter {
  const counts = { active: 0, completed: 0, failed: 0, tokens: 0 };

  async function* counted(
    handler: RequestHandler,
    request: GenerateRequest,
    signal: AbortSignal,
  ): AsyncGenerator<GenerateEvent> {
    counts.active += 1;
    try {
      for await (const event of handler.generate(request, signal)) {
        if (event.type === "tokens") counts.tokens += event.tokenCount;
        if (event.type === "end") counts.completed += 1;
        yield event;
      }
    } catch (error) {
      // A client that leaves is no failure.
      if (!signal.aborted) counts.failed += 1;
      throw error;
    } finally {
      counts.active -= 1;
    }
  }

  return {
    metered: (handler) => ({
      ...handler,
      generate: (request, signal) =>
        request.requestId === probeRequestId
          ? handler.generate(request, signal)
          : counted(handler, request, signal),
    }),
    totals: () => ({ ...counts }),
  };
}
