/** From the JSON of OpenAI's /v1/embeddings to what is asked of the network. */
import { z } from "zod";
import { dimensionsMax, type EmbedInput } from "../../protocol/embed.ts";
import type { RoutingHints } from "../../router/hints.ts";
import { utf8 } from "../../util/bytes.ts";
import { SkeinError } from "../../util/errors.ts";
import { refuseUnknown } from "../requests/known-fields.ts";
import { checkShape } from "../requests/check-shape.ts";
import { hintsOf, skeinSchema } from "../requests/parse-hints.ts";

/** Inputs of one request; OpenAI's bound. */
export const inputsMax = 2_048;
/** No model reads as much in one input, and one travels in one frame. */
const inputBytesMax: number = 1024 * 1024;
const inputTokensMax: number = inputBytesMax / 5;
const tokenIdMax = 0xffff_ffff;

export interface EmbeddingsRequest {
  readonly model: string;
  readonly inputs: readonly EmbedInput[];
  readonly format: "float" | "base64";
  readonly dimensions: number | null;
  readonly allowOtherModels: boolean;
  readonly hints: RoutingHints;
  /** As in a `CompletionRequest`. */
  readonly feePercent?: number;
}

const isTokenIds = (value: unknown): value is number[] =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((id) => Number.isInteger(id) && id >= 0 && id <= tokenIdMax);
const isText = (value: unknown): value is string => typeof value === "string" && value !== "";

type Input = string | number[] | string[] | number[][];

// By hand: zod would describe each of a million wrong items in four ways.
const input = z.custom<Input>((value) => {
  if (isText(value) || isTokenIds(value)) return true;
  if (!Array.isArray(value) || value.length === 0 || value.length > inputsMax) return false;
  return value.every(isText) || value.every(isTokenIds);
});

const embeddingsSchema = z.looseObject({
  model: z.string().min(1).max(300),
  input,
  encoding_format: z.enum(["float", "base64"]).nullish(),
  dimensions: z.number().int().min(1).max(dimensionsMax).nullish(),
  skein: skeinSchema.nullish(),
});

const words = {
  input: `a non-empty text, a list of at most ${inputsMax} such texts, a list of token ids, or a list of such lists`,
  encoding_format: "float or base64",
  dimensions: `an integer from 1 to ${dimensionsMax}`,
};

/** @throws SkeinError `invalid_request`, `request_too_large` */
export function parseEmbeddings(body: Record<string, unknown>): EmbeddingsRequest {
  refuseUnknown("embeddings", body);
  const request = checkShape(embeddingsSchema, body, words);
  const inputs = toInputs(request.input);
  inputs.forEach(checkSize);
  return {
    model: request.model,
    inputs,
    format: request.encoding_format ?? "float",
    dimensions: request.dimensions ?? null,
    allowOtherModels: request.skein?.allow_other_models ?? false,
    hints: { ...hintsOf(request.skein), needs: ["embeddings"] },
  };
}

function toInputs(given: Input): EmbedInput[] {
  if (typeof given === "string") return [{ kind: "text", text: given }];
  if (typeof given[0] === "number") return [{ kind: "tokens", tokenIds: given as number[] }];
  return (given as (string | number[])[]).map((item) =>
    typeof item === "string" ? { kind: "text", text: item } : { kind: "tokens", tokenIds: item },
  );
}

function checkSize(given: EmbedInput): void {
  const isShort =
    given.kind === "text"
      ? utf8(given.text).length <= inputBytesMax
      : given.tokenIds.length <= inputTokensMax;
  if (isShort) return;
  throw new SkeinError("request_too_large", `An input is larger than ${inputBytesMax} bytes.`, {
    param: "input",
    hint: "Divide it into shorter ones; the contexts of models are far smaller.",
  });
}
