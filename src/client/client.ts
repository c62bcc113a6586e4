/** A client of a gateway, for the terminal commands. Every call ends: by its answer, its time, or its signal. */
import type {
  AuditListView,
  AuditView,
  GatewayView,
  ModelView,
  ProviderView,
  QuoteView,
  RequestView,
} from "../protocol/gateway-api.ts";
import type { ChatMessage } from "../protocol/generate.ts";
import type { ReceiptDocumentView } from "../receipt/document.ts";
import { isErrorCode, SkeinError } from "../util/errors.ts";
import { type BatchClient, createBatchClient } from "./batches.ts";
import { parseGatewayUrl } from "./gateway-url.ts";
import { type ChatEnd, readChunks } from "./read-chunks.ts";

/** Anything but a completion. */
const callTimeoutMs = 10_000;
/** A gateway that has not finished after this long has lost the request. */
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

export type { ChatEnd };

/** Every call throws SkeinError `connection_failed` when no gateway answers, or what the gateway refused with. */
export interface Client {
  readonly baseUrl: string;
  models(signal?: AbortSignal): Promise<ListedModel[]>;
  providers(signal?: AbortSignal): Promise<ProviderView[]>;
  /** With its reputation. */
  provider(id: string, signal?: AbortSignal): Promise<ProviderView>;
  /** The latest, newest first. @param provider null: of all */
  audits(provider: string | null, limit: number, signal?: AbortSignal): Promise<AuditListView>;
  /** By the hash of the receipt, or its beginning. */
  audit(receipt: string, signal?: AbortSignal): Promise<AuditView>;
  /** Computes an answer again, at the gateway. */
  runAudit(document: object, signal?: AbortSignal): Promise<AuditView[]>;
  gateway(signal?: AbortSignal): Promise<GatewayView>;
  quote(request: ChatRequest, signal?: AbortSignal): Promise<QuoteView>;
  /** Why a request went where it went. */
  request(id: string, signal?: AbortSignal): Promise<RequestView>;
  /** The receipts of an answer, as they are kept. */
  receipt(id: string, signal?: AbortSignal): Promise<ReceiptDocumentView>;
  /** Yields text; returns how the answer ended. */
  chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<string, ChatEnd>;
  readonly batches: BatchClient;
}

/** @throws SkeinError `invalid_config` when `baseUrl` is no address */
export function createClient(options: {
  baseUrl: string;
  apiKey: string | null;
  fetch: typeof fetch;
}): Client {
  const baseUrl = baseUrlOf(options.baseUrl);
  const authorization: Record<string, string> =
    options.apiKey === null ? {} : { authorization: `Bearer ${options.apiKey}` };

  async function call(path: string, body: object | null, signal: AbortSignal): Promise<Response> {
    let response: Response;
    try {
      const json = { "content-type": "application/json", ...authorization };
      // A form's type names its boundary; the platform writes it.
      const init = body instanceof FormData ? { body } : { body: JSON.stringify(body), headers: json };
      response = await options.fetch(baseUrl + path, {
        headers: authorization,
        ...(body === null ? {} : { method: "POST", ...init }),
        signal,
      });
    } catch (error) {
      throw unanswered(baseUrl, signal, error);
    }
    if (!response.ok) throw errorOf(await response.json().catch(() => null), response.status);
    return response;
  }

  /** @param isExpected tells a gateway's answer from that of another program at the same address */
  async function get<T>(
    path: string,
    body: object | null,
    signal: AbortSignal | undefined,
    isExpected: (answer: T) => unknown,
  ): Promise<T> {
    const bound = AbortSignal.timeout(callTimeoutMs);
    const either = signal === undefined ? bound : AbortSignal.any([signal, bound]);
    const response = await call(path, body, either);
    try {
      const answer = (await response.json()) as T;
      if (isExpected(answer)) return answer;
    } catch (error) {
      if (either.aborted) throw unanswered(baseUrl, either, error);
    }
    throw notGateway(baseUrl);
  }

  return {
    baseUrl,
    batches: createBatchClient(call),
    models: async (signal) => {
      const isExpected = ({ data }: { data?: ListedModel[] }): boolean | undefined =>
        data?.every(({ id, skein }) => typeof id === "string" && typeof skein?.providers === "number");
      return (await get<{ data: ListedModel[] }>("/v1/models", null, signal, isExpected)).data;
    },
    providers: async (signal) =>
      (await get<{ data: ProviderView[] }>("/skein/v1/providers", null, signal, isList)).data,
    provider: (id, signal) =>
      get<ProviderView>(
        `/skein/v1/providers/${encodeURIComponent(id)}`,
        null,
        signal,
        ({ models }) => models,
      ),
    audits: async (provider, limit, signal) => {
      const of = provider === null ? "" : `&provider=${encodeURIComponent(provider)}`;
      const path = `/skein/v1/audits?limit=${limit}${of}`;
      return get<AuditListView>(path, null, signal, isList);
    },
    audit: (receipt, signal) =>
      get<AuditView>(
        `/skein/v1/audits/${encodeURIComponent(receipt)}`,
        null,
        signal,
        ({ verdict }) => verdict,
      ),
    async runAudit(document, signal) {
      const bound = AbortSignal.timeout(answerTimeoutMs);
      const either = signal === undefined ? bound : AbortSignal.any([signal, bound]);
      const response = await call("/skein/v1/audits", document, either);
      return ((await response.json()) as { data: AuditView[] }).data;
    },
    gateway: (signal) => get<GatewayView>("/skein/v1/gateway", null, signal, ({ peer_id }) => peer_id),
    quote: (request, signal) => get<QuoteView>("/v1/quote", request, signal, ({ offers }) => offers),
    request: (id, signal) =>
      get<RequestView>(`/v1/requests/${encodeURIComponent(id)}`, null, signal, ({ decisions }) => decisions),
    receipt: (id, signal) =>
      get<ReceiptDocumentView>(
        `/v1/requests/${encodeURIComponent(id)}/receipt`,
        null,
        signal,
        ({ choices }) => choices,
      ),
    async *chat(request, signal) {
      const body = { ...request, stream: true, stream_options: { include_usage: true } };
      const either = AbortSignal.any([signal, AbortSignal.timeout(answerTimeoutMs)]);
      const response = await call("/v1/chat/completions", body, either);
      if (!/^text\/event-stream/i.test(response.headers.get("content-type") ?? "")) throw notGateway(baseUrl);
      try {
        return yield* readChunks(response.body!, (chunk) => errorOf(chunk, 502));
      } catch (error) {
        throw either.aborted ? unanswered(baseUrl, either, error) : error;
      }
    },
  };
}

function isList({ data }: { data: unknown }): boolean {
  return Array.isArray(data);
}

/** People paste the base URL of OpenAI clients, too. */
function baseUrlOf(given: string): string {
  const url = parseGatewayUrl(given);
  if (url !== null) return (url.origin + url.pathname).replace(/\/+$/, "").replace(/\/v1$/, "");
  throw new SkeinError("invalid_config", `'${given}' is not the address of a gateway.`, {
    hint: "Give a URL such as http://127.0.0.1:4141.",
  });
}

function notGateway(baseUrl: string): SkeinError {
  return new SkeinError("connection_failed", `What answers at ${baseUrl} is not a Skein gateway.`, {
    hint: "Name a gateway with --gateway, or start one with `npm start`.",
  });
}

/** Why a call has no answer. */
function unanswered(baseUrl: string, signal: AbortSignal, cause: unknown): SkeinError {
  const reason: unknown = signal.aborted ? signal.reason : null;
  if (reason instanceof SkeinError) return reason;
  if (reason instanceof DOMException && reason.name === "TimeoutError") {
    return new SkeinError("connection_failed", `The gateway at ${baseUrl} did not answer in time.`, {
      hint: "Try again, or name another with --gateway.",
      cause,
    });
  }
  if (signal.aborted) return new SkeinError("cancelled", "Stopped.", { cause });
  return new SkeinError("connection_failed", `No gateway answers at ${baseUrl}.`, {
    hint: "Start one with `npm start`, or name another with --gateway.",
    cause,
  });
}

/** A gateway's refusal, in OpenAI's shape, as the error it began as. */
function errorOf(body: unknown, status: number): SkeinError {
  const error = (body as { error?: { message?: unknown; code?: unknown } } | null)?.error;
  const message = typeof error?.message === "string" ? error.message : `The gateway answered ${status}.`;
  const code = typeof error?.code === "string" && isErrorCode(error.code) ? error.code : "internal_error";
  return new SkeinError(
    code,
    message,
    code === "invalid_api_key"
      ? { hint: "Set SKEIN_API_KEY to a key of this gateway, or give --api-key." }
      : {},
  );
}
