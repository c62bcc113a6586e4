/** HTTP calls to an OpenAI-compatible upstream, with every failure named. */
import { z } from "zod";
import type { Embedded, EmbedRequest } from "../protocol/embed.ts";
import type { GenerateRequest } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import { abortError } from "../util/abort.ts";
import { embeddedIn, embeddingsBody, embeddingsCharsMax } from "./openai-embeddings.ts";
import { type Continuation, Dialect, type Refusal } from "./openai-dialect.ts";

export interface Upstream {
  /** How it goes on with a part of an answer to a chat. */
  continueChatsBy(continuation: Continuation): void;
  /** Names of the models it serves. */
  models(signal: AbortSignal): Promise<string[]>;
  /** Texts as vectors. @throws SkeinError `upstream_failed`, and what it refuses */
  embed(model: string, request: EmbedRequest, signal: AbortSignal): Promise<Embedded>;
  /** Opens a streamed completion. */
  open(
    model: string,
    request: GenerateRequest,
    signal: AbortSignal,
  ): Promise<ReadableStream<Uint8Array<ArrayBuffer>>>;
}

const modelsTimeoutMs = 5_000;
const modelsSchema = z.looseObject({ data: z.array(z.looseObject({ id: z.string().max(300) })).max(10_000) });
/** Clouds list some hundreds, each with a page of details. */
const modelsCharsMax = 10_000_000;
/** An error body worth parsing, and a reason worth showing. */
const errorCharsMax = 10_000;
const reasonCharsMax = 500;

/** @throws SkeinError `invalid_config` when the URL is none; its functions throw `upstream_failed` and refusals */
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
  const dialect = new Dialect();

  async function call(path: string, init: RequestInit, signal: AbortSignal): Promise<Response> {
    try {
      return await deps.fetch(base + path, { ...init, headers, signal, redirect: "error" });
    } catch (error) {
      throw unanswered(base, signal, error);
    }
  }

  async function models(signal: AbortSignal): Promise<string[]> {
    const bound = AbortSignal.timeout(modelsTimeoutMs);
    const either = AbortSignal.any([signal, bound]);
    try {
      const response = await call("/models", {}, either);
      if (!response.ok) throw refused(base, response.status, await readRefusal(response, either));
      const parsed = modelsSchema.safeParse(jsonIn(await readText(response, modelsCharsMax, either)));
      if (parsed.success) return parsed.data.data.map(({ id }) => id);
    } catch (error) {
      throw bound.aborted && !signal.aborted ? unanswered(base, signal, error) : error;
    }
    throw new SkeinError("upstream_failed", `${base}/models is not an OpenAI-compatible list of models.`, {
      hint: "Check that the URL is the server's OpenAI-compatible base (usually ending in /v1).",
    });
  }

  async function open(
    model: string,
    request: GenerateRequest,
    signal: AbortSignal,
  ): ReturnType<Upstream["open"]> {
    for (;;) {
      const asked = dialect.ask(model, request);
      const init = { method: "POST", body: JSON.stringify(asked.body) };
      const response = await call(asked.path, init, signal);
      if (response.ok && response.body !== null) return response.body;
      if (response.ok) throw new SkeinError("upstream_failed", "The upstream's answer is empty.");
      const refusal = await readRefusal(response, signal);
      if (response.status !== 400 || !dialect.learn(refusal, asked))
        throw refused(base, response.status, refusal);
    }
  }

  async function embed(model: string, request: EmbedRequest, signal: AbortSignal): Promise<Embedded> {
    const startMs = performance.now();
    const init = { method: "POST", body: JSON.stringify(embeddingsBody(model, request)) };
    const response = await call("/embeddings", init, signal);
    if (!response.ok) throw refused(base, response.status, await readRefusal(response, signal));
    const answer = jsonIn(await readText(response, embeddingsCharsMax(request), signal));
    return embeddedIn(answer, request, Math.round(performance.now() - startMs));
  }

  const continueChatsBy = (continuation: Continuation): void => void (dialect.continuation = continuation);
  return { models, open, embed, continueChatsBy };
}

function unanswered(base: string, signal: AbortSignal, cause: unknown): SkeinError {
  if (signal.aborted) return abortError(signal);
  return new SkeinError("upstream_failed", `The server at ${base} does not answer.`, {
    hint: "Check that it runs and that the URL ends as it should (usually in /v1).",
    cause,
  });
}

function refused(base: string, status: number, { message, code }: Refusal): SkeinError {
  const said = message === "" ? "no reason given" : message;
  if (status === 401 || status === 403) {
    return new SkeinError("upstream_failed", `The server at ${base} refused the API key.`, {
      hint: "Set SKEIN_UPSTREAM_KEY.",
    });
  }
  if (status === 429 || status === 503) return new SkeinError("overloaded", `The upstream is busy: ${said}`);
  if (status === 400 || status === 413 || status === 422) {
    const tooLong = code === "context_length_exceeded" || /context|too long|maximum.*tokens/i.test(said);
    return new SkeinError(
      tooLong ? "context_length_exceeded" : "invalid_request",
      `The upstream refused the request: ${said}`,
    );
  }
  return new SkeinError("upstream_failed", `The server at ${base} answered ${status}: ${said}`);
}

const textOrNull = z.string().nullable().catch(null);
const errorSchema = z.union([
  z.string().transform((message) => ({ message, code: null, param: null })),
  z.object({ message: z.string(), code: textOrNull, param: textOrNull }),
]);
const errorBodySchema = z.object({ error: errorSchema });

async function readRefusal(response: Response, signal: AbortSignal): Promise<Refusal> {
  const text = await readText(response, errorCharsMax, signal);
  const parsed = errorBodySchema.safeParse(jsonIn(text));
  // Not JSON, or cut: show what there is.
  const refusal = parsed.success ? parsed.data.error : { message: text, code: null, param: null };
  return { ...refusal, message: refusal.message.slice(0, reasonCharsMax) };
}

/** What OpenAI's error object (or whatever stands in its place) says. */
export function reasonIn(error: unknown): string {
  const parsed = errorSchema.safeParse(error);
  return (parsed.success ? parsed.data.message : JSON.stringify(error)).slice(0, reasonCharsMax);
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The beginning of a body, as far as it comes; the rest is not even received. */
async function readText(response: Response, charsMax: number, signal: AbortSignal): Promise<string> {
  let text = "";
  try {
    for await (const part of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += part;
      if (text.length >= charsMax) break;
    }
  } catch {
    if (signal.aborted) throw abortError(signal);
  }
  return text.slice(0, charsMax);
}
