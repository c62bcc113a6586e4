/** A gateway's streamed completion as text. */
import { EventSourceParserStream } from "eventsource-parser/stream";
import type { FeeView, ServedView } from "../protocol/gateway-api.ts";
import { SkeinError } from "../util/errors.ts";

/** One event: some tokens and a few hundred characters around them. */
const eventCharsMax = 1_000_000;

export interface ChatEnd {
  readonly finishReason: string | null;
  readonly usage: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly fee: FeeView;
  } | null;
  readonly served: ServedView | null;
}

interface Chunk {
  readonly error?: unknown;
  readonly choices?: {
    readonly delta?: { readonly content?: string };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: ChatEnd["usage"];
  readonly skein?: ServedView;
}

/**
 * Yields text; returns how the answer ended.
 *
 * @param errorOf turns the error object inside a stream into the error to throw
 * @throws SkeinError `provider_failed` when the stream breaks off or is none
 */
export async function* readChunks(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  errorOf: (chunk: object) => SkeinError,
): AsyncGenerator<string, ChatEnd> {
  let end: ChatEnd = { finishReason: null, usage: null, served: null };
  const events = body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream({ maxBufferSize: eventCharsMax }));
  try {
    for await (const { data } of events) {
      if (data === "[DONE]") return end;
      const chunk = JSON.parse(data) as Chunk;
      if (chunk.error !== undefined) throw errorOf(chunk);
      const [choice] = chunk.choices ?? [];
      const content = choice?.delta?.content;
      if (typeof content === "string" && content !== "") yield content;
      end = {
        finishReason: choice?.finish_reason ?? end.finishReason,
        usage: chunk.usage ?? end.usage,
        served: chunk.skein ?? end.served,
      };
    }
  } catch (error) {
    if (error instanceof SkeinError) throw error;
    throw brokenOff(error);
  }
  throw brokenOff(undefined);
}

function brokenOff(cause: unknown): SkeinError {
  return new SkeinError("provider_failed", "The answer broke off.", {
    hint: "Ask again; the gateway's log may tell why.",
    cause,
  });
}
