/**
 * Whether a server goes on with an assistant's message of which it is given the beginning, and how it wants to be asked.
 * OpenAI's API does not know this; servers of open models do it in different ways, or begin a second answer. So it is
 * tried out: a short greedy answer, then the same one again from its middle.
 */
import { type GenerateRequest, greedySampling } from "../protocol/generate.ts";
import { type ChunkLimits, readChunks } from "./openai-chunks.ts";
import type { Continuation } from "./openai-dialect.ts";
import type { Upstream } from "./openai-upstream.ts";
import { SkeinError } from "../util/errors.ts";

/** Bounds of each of the few short answers; the server may have to load its model first. */
const probeTimeoutMs = 120_000;
const probeTokens = 32;
/** So much of the rest must come again before it counts as the same answer. */
const sameCharsMin = 8;

const question: GenerateRequest = {
  requestId: "continuation",
  modelId: "",
  prompt: {
    kind: "chat",
    messages: [
      { role: "user", content: "Count from one to thirty in English words, with commas between them." },
    ],
  },
  emitted: { tokenIds: [], text: "" },
  sampling: greedySampling,
  stop: [],
  outputTokensMax: probeTokens,
  timeoutMs: probeTimeoutMs,
};

/** @throws SkeinError `invalid_config` when the server does not go on in any known way */
export async function findContinuation(
  upstream: Upstream,
  model: string,
  limits: ChunkLimits,
): Promise<Continuation> {
  const whole = await textOf(upstream, model, limits, question);
  const half = whole.lastIndexOf(" ", whole.length / 2);
  const rest = whole.slice(half);
  if (half > 0 && rest.length >= sameCharsMin) {
    const continued = { ...question, emitted: { tokenIds: [], text: whole.slice(0, half) } };
    for (const continuation of ["assistant_last", "continue_final_message"] as const) {
      upstream.continueChatsBy(continuation);
      const text = await textOf(upstream, model, limits, continued).catch(refusedAsEmpty);
      const length = Math.min(text.length, rest.length);
      if (length >= sameCharsMin && text.slice(0, length) === rest.slice(0, length)) return continuation;
    }
  }
  throw new SkeinError(
    "invalid_config",
    "The server does not go on with an answer that it is given a part of.",
    {
      hint: "Leave out --resume-by: chats that lose their provider then end with an error, completions go on.",
    },
  );
}

/** A server that refuses the question in this form may take it in another one. */
function refusedAsEmpty(error: unknown): string {
  if (error instanceof SkeinError && error.code === "invalid_request") return "";
  throw error;
}

async function textOf(
  upstream: Upstream,
  model: string,
  limits: ChunkLimits,
  request: GenerateRequest,
): Promise<string> {
  const signal = AbortSignal.timeout(probeTimeoutMs);
  const body = await upstream.open(model, request, signal);
  let text = "";
  for await (const { content } of readChunks(body, signal, limits)) text += content;
  return text;
}
