import type { Engine } from "../engine/port.ts";
import type { RequestHandler } from "../network/session.ts";
import type { PriceSheet } from "../protocol/price.ts";
import { SkeinError } from "../util/errors.ts";

/** One engine, the alias it is offered under, and what it costs. */
export interface ServedEngine {
  readonly engine: Engine;
  readonly name: string;
  readonly price: PriceSheet;
}

/** Answers a gateway's requests with the engine that serves the asked identity. */
export function createRequestHandler(
  served: readonly ServedEngine[],
  isDraining: () => boolean,
): RequestHandler {
  function engineOf(modelId: string): Engine {
    const found = served.find(({ engine }) => engine.model.modelId === modelId);
    if (found !== undefined) return found.engine;
    throw new SkeinError("model_not_found", `This provider does not serve ${modelId}.`, {
      hint: "Its offer may have changed; another provider may serve it.",
      retry: "elsewhere",
    });
  }
  return {
    generate(request, signal) {
      // It was on its way when this provider said that it leaves: no fault of anybody.
      if (isDraining()) throw new SkeinError("overloaded", "This provider is leaving.");
      return engineOf(request.modelId).generate(request, signal);
    },
    countPromptTokens: (modelId, prompt, signal) => engineOf(modelId).countPromptTokens(prompt, signal),
  };
}
