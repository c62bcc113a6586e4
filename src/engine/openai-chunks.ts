/** The event stream of an OpenAI-compatible completion, checked event by event. */
import { EventSourceParserStream } from "eventsource-parser/stream";
import { z } from "zod";
import { SkeinError } from "../util/errors.ts";
import { abortError } from "../util/abort.ts";
import type { CallPiece } from "./openai-tools.ts";
import { reasonIn } from "./openai-upstream.ts";

const callSchema = z.looseObject({
  index: z.number().nullish(),
  function: z.looseObject({ name: z.string().nullish(), arguments: z.string().nullish() }).nullish(),
});
const choiceSchema = z.looseObject({
  delta: z
    .looseObject({
      content: z.string().nullish(),
      // Thoughts come under either name. They are tokens, whatever becomes of their text.
      reasoning_content: z.unknown().optional(),
      reasoning: z.unknown().optional(),
      tool_calls: z.array(callSchema).nullish(),
    })
    .nullish(),
  text: z.string().nullish(),
  finish_reason: z.string().nullish(),
});
const tokensSchema = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const chunkSchema = z.looseObject({
  choices: z.array(choiceSchema).nullish(),
  // Some servers send parts of it, with every piece.
  usage: z
    .looseObject({ prompt_tokens: tokensSchema, completion_tokens: tokensSchema })
    .nullish()
    .catch(null),
  error: z.unknown().optional(),
});

export interface Chunk {
  readonly content: string;
  readonly calls: readonly CallPiece[];
  readonly reasoning: string;
  readonly finishReason: string | null;
  readonly usage: { readonly promptTokens: number; readonly outputTokens: number } | null;
}

export interface ChunkLimits {
  readonly eventCharsMax: number;
  readonly answerCharsMax: number;
}

/** Yields chunks until `[DONE]` or the end. @throws SkeinError `upstream_failed`, or what `signal` says */
export async function* readChunks(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  signal: AbortSignal,
  { eventCharsMax, answerCharsMax }: ChunkLimits,
): AsyncGenerator<Chunk> {
  let chars = 0;
  try {
    const events = body
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream({ maxBufferSize: eventCharsMax }));
    for await (const { data } of events) {
      if (data === "[DONE]") return;
      chars += data.length;
      if (chars > answerCharsMax)
        throw new SkeinError("upstream_failed", "The upstream's answer has no end.");
      yield parseChunk(data);
    }
  } catch (error) {
    if (signal.aborted) throw abortError(signal);
    if (error instanceof SkeinError) throw error;
    const reason = String(error).slice(0, 300);
    throw new SkeinError("upstream_failed", `The upstream's answer broke off: ${reason}`, { cause: error });
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
  const { choices, usage, error } = result.data;
  if (error != null) {
    throw new SkeinError("upstream_failed", `The upstream failed: ${reasonIn(error)}`);
  }
  const choice = choices?.[0];
  const delta = choice?.delta;
  const thoughts = delta?.reasoning_content ?? delta?.reasoning;
  return {
    content: delta?.content ?? choice?.text ?? "",
    calls: (delta?.tool_calls ?? []).map(({ index, function: called }) => ({
      index: index ?? null,
      name: called?.name ?? null,
      arguments: called?.arguments ?? "",
    })),
    reasoning: typeof thoughts === "string" ? thoughts : "",
    finishReason: choice?.finish_reason ?? null,
    usage:
      usage == null ? null : { promptTokens: usage.prompt_tokens, outputTokens: usage.completion_tokens },
  };
}
