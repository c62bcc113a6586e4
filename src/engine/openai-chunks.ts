/** The event stream of an OpenAI-compatible completion, checked event by event. */
import { EventSourceParserStream } from "eventsource-parser/stream";
import { z } from "zod";
import { SkeinError } from "../util/errors.ts";
import { abortError } from "../util/abort.ts";

const chunkSchema = z.looseObject({
  choices: z
    .array(
      z.looseObject({
        delta: z.looseObject({ content: z.string().nullish() }).nullish(),
        text: z.string().nullish(),
        finish_reason: z.string().nullish(),
      }),
    )
    .nullish(),
  usage: z
    .looseObject({ prompt_tokens: z.number().int().min(0), completion_tokens: z.number().int().min(0) })
    .nullish(),
  error: z.unknown().optional(),
});

export type Chunk = z.infer<typeof chunkSchema>;

/** Yields chunks until `[DONE]` or the end. @throws SkeinError `upstream_failed`, `cancelled` */
export async function* readChunks(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  signal: AbortSignal,
): AsyncGenerator<Chunk> {
  try {
    const events = body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
    for await (const { data } of events) {
      if (data === "[DONE]") return;
      yield parseChunk(data);
    }
  } catch (error) {
    if (signal.aborted) throw abortError(signal);
    if (error instanceof SkeinError) throw error;
    throw new SkeinError("upstream_failed", `The upstream's answer broke off: ${String(error)}`, {
      cause: error,
    });
  }
}

function parseChunk(data: string): Chunk {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch (error) {
    throw new SkeinError("upstream_failed", "The upstream sent an event that is not JSON.", { cause: error });
  }
  const result = chunkSchema.safeParse(value);
  if (!result.success) throw new SkeinError("upstream_failed", "The upstream sent a malformed event.");
  if (result.data.error != null) {
    throw new SkeinError(
      "upstream_failed",
      `The upstream failed: ${JSON.stringify(result.data.error).slice(0, 300)}`,
    );
  }
  return result.data;
}
