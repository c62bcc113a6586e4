/**
 * The one error type of Skein. Every failure that a user or another process may see has a code from
 * the catalogue below, a sentence that says what happened, and a hint that says what to do about it.
 */

/** Where trying again makes sense: the same provider, another provider, or nowhere. */
export type RetryHint = "here" | "elsewhere" | "never";

interface ErrorKind {
  /** HTTP status the gateway answers with. */
  readonly status: number;
  /** `error.type` of OpenAI's error object. */
  readonly type:
    | "invalid_request_error"
    | "authentication_error"
    | "permission_error"
    | "not_found_error"
    | "rate_limit_error"
    | "server_error";
  readonly retry: RetryHint;
}

const invalid = { type: "invalid_request_error", retry: "never" } as const;
const failed = { type: "server_error", retry: "elsewhere" } as const;

/** The catalogue. Codes are stable: clients and other processes match on them. */
export const errorKinds = {
  // The request itself is wrong: no other provider would answer differently.
  invalid_request: { status: 400, ...invalid },
  invalid_json: { status: 400, ...invalid },
  unsupported_parameter: { status: 400, ...invalid },
  context_length_exceeded: { status: 400, ...invalid },
  request_too_large: { status: 413, ...invalid },
  unsupported_media_type: { status: 415, ...invalid },
  invalid_api_key: { status: 401, type: "authentication_error", retry: "never" },
  foreign_origin: { status: 403, type: "permission_error", retry: "never" },
  not_authorized: { status: 403, type: "permission_error", retry: "never" },
  not_found: { status: 404, type: "not_found_error", retry: "never" },
  unsupported_endpoint: { status: 404, ...invalid },
  quota_exceeded: { status: 403, type: "permission_error", retry: "never" },
  conflict: { status: 409, ...invalid },
  method_not_allowed: { status: 405, ...invalid },
  model_not_found: { status: 404, ...invalid },
  // The network cannot serve it now.
  no_provider: { status: 503, type: "server_error", retry: "elsewhere" },
  rate_limit_exceeded: { status: 429, type: "rate_limit_error", retry: "never" },
  overloaded: { status: 429, type: "rate_limit_error", retry: "elsewhere" },
  deadline_exceeded: { status: 504, ...failed },
  provider_failed: { status: 502, ...failed },
  provider_disconnected: { status: 502, ...failed },
  provider_stalled: { status: 504, ...failed },
  engine_failed: { status: 502, ...failed },
  engine_unavailable: { status: 503, ...failed },
  upstream_failed: { status: 502, ...failed },
  internal_error: { status: 500, ...failed },
  // Between processes.
  protocol_violation: { status: 502, ...failed },
  invalid_signature: { status: 502, type: "server_error", retry: "never" },
  join_refused: { status: 403, type: "permission_error", retry: "never" },
  connection_failed: { status: 502, type: "server_error", retry: "here" },
  cancelled: { status: 499, type: "server_error", retry: "never" },
  // On this machine.
  store_failed: { status: 500, type: "server_error", retry: "never" },
  invalid_config: { status: 500, type: "server_error", retry: "never" },
  invalid_model_file: { status: 500, type: "server_error", retry: "never" },
  unsupported_model: { status: 500, type: "server_error", retry: "never" },
  engine_not_installed: { status: 500, type: "server_error", retry: "never" },
  port_in_use: { status: 500, type: "server_error", retry: "never" },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorKinds;

export interface SkeinErrorOptions {
  /** What the person who meets the error can do about it: a full sentence. */
  readonly hint?: string;
  /** Name of the offending request parameter (OpenAI's `error.param`). */
  readonly param?: string;
  /** Overrides the catalogue's retry hint. */
  readonly retry?: RetryHint;
  /** When trying again makes sense, where that is known. */
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

export class SkeinError extends Error {
  override readonly name = "SkeinError";
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly param: string | undefined;
  readonly retry: RetryHint;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, options: SkeinErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.param = options.param;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.retry = options.retry ?? errorKinds[code].retry;
  }

  /** HTTP status that belongs to the code. */
  get status(): number {
    return errorKinds[this.code].status;
  }

  /** Message and hint as one line, for terminals and logs. */
  get text(): string {
    return this.hint === undefined ? this.message : `${this.message} ${this.hint}`;
  }
}

/** Any thrown value as a SkeinError; unknown ones become `fallback` with their message kept. */
export function toSkeinError(error: unknown, fallback: ErrorCode = "internal_error"): SkeinError {
  if (error instanceof SkeinError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new SkeinError(fallback, message, { cause: error });
}

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorKinds, code);
}
