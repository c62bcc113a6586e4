/** Messages between an engine and its host: the process or thread that runs the model. */
import type { Embedded, EmbedRequest } from "../../protocol/embed.ts";
import type { GenerateEvent, GenerateRequest, Prompt } from "../../protocol/generate.ts";
import type { AnswerScores, ScoreRequest } from "../port.ts";
import { isErrorCode, SkeinError, toSkeinError } from "../../util/errors.ts";

export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly param?: string | undefined;
}

export type ToHost =
  | { readonly type: "generate"; readonly id: number; readonly request: GenerateRequest }
  /** The consumer read this many `tokens` events more: back-pressure. */
  | { readonly type: "read"; readonly id: number; readonly events: number }
  /** Answered with `cancelled` once nothing is computed for the request any more. */
  | { readonly type: "cancel"; readonly id: number }
  | { readonly type: "count"; readonly id: number; readonly prompt: Prompt }
  /** Only to hosts of engines that can. A cancelled one is answered with `failed`. */
  | { readonly type: "score"; readonly id: number; readonly score: ScoreRequest }
  /** As `score`. */
  | { readonly type: "embed"; readonly id: number; readonly request: EmbedRequest };

export type FromHost =
  /** Everything that one step of the batch produced, in one message; nothing is a sign of life. */
  | { readonly type: "step"; readonly events: readonly (readonly [number, GenerateEvent])[] }
  | { readonly type: "failed"; readonly id: number; readonly error: WireError }
  | { readonly type: "cancelled"; readonly id: number }
  | { readonly type: "counted"; readonly id: number; readonly promptTokens: number }
  | { readonly type: "scored"; readonly id: number; readonly scores: AnswerScores }
  | { readonly type: "embedded"; readonly id: number; readonly embedded: Embedded };

/** Unread `tokens` events of one request before its sequence pauses. */
export const unreadEventsMax = 256;

export function toWire(error: unknown): WireError {
  const { code, message, hint, param } = toSkeinError(error, "engine_failed");
  return { code, message, hint, param };
}

export function fromWire({ code, message, hint, param }: WireError): SkeinError {
  return new SkeinError(isErrorCode(code) ? code : "engine_failed", message, {
    ...(hint === undefined ? {} : { hint }),
    ...(param === undefined ? {} : { param }),
  });
}
