/** A client of a gateway, for the terminal commands. */
import { EventSourceParserStream } from "eventsource-parser/stream";
import type {
  GatewayView,
  ModelView,
  ProviderView,
  QuoteView,
  ServedView,
  FeeView,
} from "../protocol/gateway-api.ts";
import type { ChatMessage } from "../protocol/generate.ts";
import { isErrorCode, SkeinError } from "../util/errors.ts";

/** Anything but a completion. */
const callTimeoutMs = 10_000;
/** A gateway that sends nothing for this long has lost the request. */
const answerTimeoutMs = 15 * 60_000;

export interface ListedModel {
  readonly id: string;
  readonly created: number;
  readonly skein: ModelView;
}

export interface ChatRequest {
  readonly model: string;
  readonly messages: readonly ChatMessage[];
  readonly temperature?: number;
  readonly max_tokens?: number;
  readonly seed?: number;
}

export interface ChatEnd {
  readonly finishReason: string | null;
  readonly usage: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly fee: FeeView;
  } | null;
  readonly served: ServedView | null;
}

export interface Client {
  readonly baseUrl: string;
  models(): Promise<ListedModel[]>;
  providers(): Promise<ProviderView[]>;
  gateway(): Promise<GatewayView>;
  quote(request: ChatRequest): Promise<QuoteView>;
  /** Yields text; returns how the answer ended. */
  chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<string, ChatEnd>;
}

export function createClient(options: {
  baseUrl: string;
  apiKey: string | null;
  fetch: typeof fetch;
}): Client {
  // People paste the base URL of OpenAI clients, too.
  const baseUrl = options.baseUrl.replace(/\/+$/, "").replace(/\/v1$/, "");
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (options.apiKey !== null) headers["authorization"] = `Bearer ${options.apiKey}`;

  async function call(path: string, body: object | null, signal: AbortSignal): Promise<Response> {
    let response: Response;
    try {
      const init = body === null ? {} : { method: "POST", body: JSON.stringify(body) };
      response = await options.fetch(baseUrl + path, { ...init, headers, signal });
    } catch (error) {
      if (signal.aborted && signal.reason instanceof SkeinError) throw signal.reason;
      throw new SkeinError("connection_failed", `No gateway answers at ${baseUrl}.`, {
        hint: "Start one with `npm start`, or name another with --gateway.",
        cause: error,
      });
    }
    if (!response.ok) throw errorOf(await response.json().catch(() => null), response.status);
    return response;
  }

  async function get<T>(path: string, body: object | null = null): Promise<T> {
    return (await (await call(path, body, AbortSignal.timeout(callTimeoutMs))).json()) as T;
  }

  return {
    baseUrl,
    models: async () => (await get<{ data: ListedModel[] }>("/v1/models")).data,
    providers: async () => (await get<{ data: ProviderView[] }>("/skein/v1/providers")).data,
    gateway: () => get<GatewayView>("/skein/v1/gateway"),
    quote: (request) => get<QuoteView>("/v1/quote", request),
    async *chat(request, signal) {
      const body = { ...request, stream: true, stream_options: { include_usage: true } };
      const either = AbortSignal.any([signal, AbortSignal.timeout(answerTimeoutMs)]);
      const response = await call("/v1/chat/completions", body, either);
      return yield* readChunks(response);
    },
  };
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

async function* readChunks(response: Response): AsyncGenerator<string, ChatEnd> {
  let end: ChatEnd = { finishReason: null, usage: null, served: null };
  const events = response
    .body!.pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream());
  for await (const { data } of events) {
    if (data === "[DONE]") return end;
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error !== undefined) throw errorOf(chunk, 502);
    const [choice] = chunk.choices ?? [];
    if (choice?.delta?.content) yield choice.delta.content;
    end = {
      finishReason: choice?.finish_reason ?? end.finishReason,
      usage: chunk.usage ?? end.usage,
      served: chunk.skein ?? end.served,
    };
  }
  throw new SkeinError("provider_failed", "The answer broke off.");
}

function errorOf(body: unknown, status: number): SkeinError {
  const error = (body as { error?: { message?: unknown; code?: unknown } } | null)?.error;
  const message = typeof error?.message === "string" ? error.message : `The gateway answered ${status}.`;
  const code = typeof error?.code === "string" && isErrorCode(error.code) ? error.code : "internal_error";
  return new SkeinError(code, message);
}
