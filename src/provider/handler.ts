import type { Engine } from "../engine/port.ts";
import type { RequestHandler } from "../network/session.ts";
import { opsHash } from "../exact/ops/version.ts";
import type { Terms, TraceRequest } from "../protocol/generate.ts";
import type { PriceSheet } from "../protocol/price.ts";
import { type IssueDeps, withReceipt } from "../receipt/issue.ts";
import type { ReceiptJournal } from "./receipt-journal.ts";
import { createTracer } from "./trace.ts";
import { SkeinError } from "../util/errors.ts";

export interface ReceiptDeps extends IssueDeps {
  readonly chain: ReceiptJournal;
  /** Name and version of what runs, for receipts. */
  readonly software: string;
}

/** One engine, the alias it is offered under, and what it costs. */
export interface ServedEngine {
  readonly engine: Engine;
  readonly name: string;
  readonly price: PriceSheet;
}

/**
 * Answers a gateway's requests with the engine that serves the asked identity.
 * @param receipts null: none are given
 */
export function createRequestHandler(
  served: readonly ServedEngine[],
  isDraining: () => boolean,
  receipts: ReceiptDeps | null,
): RequestHandler {
  function servedAs(modelId: string): ServedEngine {
    const found = served.find(({ engine }) => engine.model.modelId === modelId);
    if (found !== undefined) return found;
    throw new SkeinError("model_not_found", `This provider does not serve ${modelId}.`, {
      hint: "Its offer may have changed; another provider may serve it.",
      retry: "elsewhere",
    });
  }
  const tracer =
    receipts === null
      ? null
      : createTracer({ ...receipts, find: (sequence) => receipts.chain.find(sequence) });
  return {
    generate(request, signal) {
      // It was on its way when this provider said that it leaves: no fault of anybody.
      if (isDraining()) throw new SkeinError("overloaded", "This provider is leaving.");
      const { terms, ...plain } = request;
      const { engine, price } = servedAs(request.modelId);
      if (terms === undefined || receipts === null) return engine.generate(plain, signal);
      checkTerms(terms, engine, price);
      const issuer = {
        engine: `${receipts.software} ${engine.kind}`,
        opsHash: engine.model.trustTier === "exact" ? opsHash : null,
      };
      const asked = { ...plain, terms };
      return withReceipt(receipts, issuer, asked, engine.generate(asked, signal));
    },
    ...(tracer === null
      ? {}
      : {
          trace(request: TraceRequest, signal: AbortSignal) {
            if (isDraining()) throw new SkeinError("overloaded", "This provider is leaving.");
            return tracer(servedAs(request.modelId).engine, request, signal);
          },
        }),
    async embed(request, signal) {
      if (isDraining()) throw new SkeinError("overloaded", "This provider is leaving.");
      const { engine } = servedAs(request.modelId);
      if (engine.embed !== undefined) return engine.embed(request, signal);
      throw new SkeinError("invalid_request", "This model makes no embeddings here.", { retry: "elsewhere" });
    },
    countPromptTokens: (modelId, prompt, signal) =>
      servedAs(modelId).engine.countPromptTokens(prompt, signal),
  };
}

/** What is signed must be what was offered. @throws SkeinError `overloaded`: the gateway has not heard of the change yet */
function checkTerms(terms: Terms, { model }: Engine, offered: PriceSheet): void {
  const { tier, price, contextTokensMax } = terms;
  const isSamePrice =
    price.inputPerMillionTokens === offered.inputPerMillionTokens &&
    price.outputPerMillionTokens === offered.outputPerMillionTokens &&
    price.perSecond === offered.perSecond;
  if (isSamePrice && tier === model.trustTier && contextTokensMax === model.contextTokensMax) return;
  throw new SkeinError("overloaded", "This provider's terms have changed.");
}
