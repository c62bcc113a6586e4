/** HTTP calls to an OpenAI-compatible upstream, with every failure named. */
import { z } from "zod";
import type { GenerateRequest } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import { abortError } from "../util/abort.ts";

export interface Upstream {
  /** Names of the models it serves. */
  models(): Promise<string[]>;
  /** Opens a streamed completion. */
  open(
    model: string,
    request: GenerateRequest,
    signal: AbortSignal,
  ): Promise<ReadableStream<Uint8Array<ArrayBuffer>>>;
}

const modelsTimeoutMs = 5_000;
const modelsSchema = z.looseObject({ data: z.array(z.looseObject({ id: z.string().max(300) })).max(10_000) });
/** An error body worth reading. */
const errorCharsMax = 500;

export function createUpstream(
  deps: { fetch: typeof fetch },
  options: { url: string; apiKey: string | null },
): Upstream {
  const base = options.url.replace(/\/+$/, "");
  if (!/^https?:\/\//.test(base) || !URL.canParse(base)) {
    throw new SkeinError("invalid_config", `${options.url} is not an http(s) URL.`, {
      hint: "Give the server's base URL, for example http://127.0.0.1:11434/v1.",
    });
  }
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (options.apiKey !== null) headers["authorization"] = `Bearer ${options.apiKey}`;

  async function call(path: string, init: RequestInit, signal: AbortSignal): Promise<Response> {
    let response: Response;
    try {
      response = await deps.fetch(base + path, { ...init, headers, signal, redirect: "error" });
    } catch (error) {
      if (signal.aborted && signal.reason instanceof SkeinError) throw abortError(signal);
      throw new SkeinError("upstream_failed", `The server at ${base} does not answer.`, {
        hint: "Check that it runs and that the URL ends as it should (usually in /v1).",
        cause: error,
      });
    }
    if (!response.ok) throw await refusal(base, response);
    return response;
  }

  return {
    async models() {
      const response = await call("/models", {}, AbortSignal.timeout(modelsTimeoutMs));
      const parsed = modelsSchema.safeParse(await response.json().catch(() => null));
      if (parsed.success) return parsed.data.data.map(({ id }) => id);
      throw new SkeinError("upstream_failed", `${base}/models is not an OpenAI-compatible list of models.`, {
        hint: "Check that the URL is the server's OpenAI-compatible base (usually ending in /v1).",
      });
    },
    async open(model, request, signal) {
      const { path, body } = bodyOf(model, request);
      const response = await call(path, { method: "POST", body: JSON.stringify(body) }, signal);
      if (response.body === null) throw new SkeinError("upstream_failed", "The upstream's answer is empty.");
      return response.body;
    },
  };
}

/** Parameters that most servers know only under extra names are sent only when they ask for something. */
function bodyOf(
  model: string,
  { prompt, sampling, stop, outputTokensMax }: GenerateRequest,
): { path: string; body: object } {
  const common = {
    model,
    stream: true,
    stream_options: { include_usage: true },
    temperature: sampling.temperature,
    top_p: sampling.topP,
    seed: sampling.seed,
    ...(sampling.topK > 0 ? { top_k: sampling.topK } : {}),
    ...(sampling.minP > 0 ? { min_p: sampling.minP } : {}),
    ...(sampling.presencePenalty !== 0 ? { presence_penalty: sampling.presencePenalty } : {}),
    ...(sampling.frequencyPenalty !== 0 ? { frequency_penalty: sampling.frequencyPenalty } : {}),
    ...(stop.length > 0 ? { stop } : {}),
    ...(outputTokensMax === null ? {} : { max_tokens: outputTokensMax }),
  };
  if (prompt.kind === "chat")
    return { path: "/chat/completions", body: { ...common, messages: prompt.messages } };
  return {
    path: "/completions",
    body: { ...common, prompt: prompt.kind === "text" ? prompt.text : prompt.tokenIds },
  };
}

async function refusal(base: string, response: Response): Promise<SkeinError> {
  const text = (await response.text().catch(() => "")).slice(0, errorCharsMax);
  const said = messageIn(text);
  const { status } = response;
  if (status === 401 || status === 403) {
    return new SkeinError("upstream_failed", `The server at ${base} refused the API key.`, {
      hint: "Set SKEIN_UPSTREAM_KEY.",
    });
  }
  if (status === 429 || status === 503) return new SkeinError("overloaded", `The upstream is busy: ${said}`);
  if (status === 400 || status === 413 || status === 422) {
    const tooLong = /context|too long|maximum.*tokens/i.test(said);
    return new SkeinError(
      tooLong ? "context_length_exceeded" : "invalid_request",
      `The upstream refused the request: ${said}`,
    );
  }
  return new SkeinError("upstream_failed", `The server at ${base} answered ${status}: ${said}`);
}

function messageIn(text: string): string {
  try {
    const body = JSON.parse(text) as { error?: { message?: unknown } | string };
    const message = typeof body.error === "string" ? body.error : body.error?.message;
    if (typeof message === "string") return message;
  } catch {
    // Not JSON, or cut: show what there is.
  }
  return text === "" ? "no reason given" : text;
}
