/** A provider that answers probes as it should, begins well, and then does not keep to the protocol. */
import type { RequestHandler } from "../../src/network/session.ts";
import type { GenerateEvent, GenerateRequest } from "../../src/protocol/generate.ts";

export type Lie = "gap" | "early end" | "no end" | "garbled count";
export const lies: readonly Lie[] = ["gap", "early end", "no end", "garbled count"];
/** Events that are as they should be. */
const honestEvents = 3;

export function lying(handler: RequestHandler, lieOf: () => Lie | null): RequestHandler {
  async function* generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    const lie = request.requestId === "probe" ? null : lieOf();
    let left = honestEvents;
    for await (const event of handler.generate(request, signal)) {
      if (lie === null || event.type === "start" || left-- > 0) yield event;
      else if (lie === "gap" && event.type === "tokens") yield { ...event, position: event.position + 1 };
      else if (lie === "early end" && event.type === "tokens") return yield endAt(event.position, "length");
      else if (lie === "garbled count" && event.type === "end")
        yield { ...event, outputTokens: event.outputTokens + 7 };
      else if (lie === "no end" && event.type === "end") throw new Error("it forgot how it ends");
      else yield event;
    }
  }
  return { generate, countPromptTokens: (...given) => handler.countPromptTokens(...given) };
}

function endAt(position: number, finishReason: "length"): GenerateEvent {
  const timings = { queueMs: 0, prefillMs: 0, decodeMs: 0 };
  return { type: "end", finishReason, promptTokens: 1, outputTokens: position, timings };
}
