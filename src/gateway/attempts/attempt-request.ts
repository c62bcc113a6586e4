/** What an attempt asks its provider for. */
import type { GenerateRequest } from "../../protocol/generate.ts";
import { isProviderId } from "../../protocol/provider-id.ts";
import { linkOf } from "./attempt-receipt.ts";
import type { ChoiceDeps, ChoiceRequest, Progress } from "./attempt.ts";
import type { Occupied } from "../search/choose-provider.ts";
import { cacheSaltOf } from "../http/security.ts";

/** The rest of the answer, with the terms of its receipt. */
export function askedFrom(
  deps: ChoiceDeps,
  request: ChoiceRequest,
  { candidate, owner }: Occupied,
  progress: Progress,
  timeoutMs: number,
): GenerateRequest {
  const { chargesPrompt, toolUse, ...plain } = request;
  const { modelId, trustTier: tier, price, contextTokensMax } = candidate.offer;
  const cacheSalt = cacheSaltOf(deps.salt, owner);
  const constraint = toolUse?.constraintFor(candidate.offer) ?? plain.constraint;
  const asked = { ...plain, constraint, ...continuationOf(progress, request), modelId, cacheSalt, timeoutMs };
  if (deps.receipts === null || !isProviderId(candidate.providerId)) return asked;
  const terms = {
    tier,
    price,
    contextTokensMax,
    chargesPrompt: chargesPrompt && progress.position === 0,
    previous: linkOf(progress.parts),
  };
  return { ...asked, terms };
}

type Continuation = Pick<GenerateRequest, "emitted" | "outputTokensMax">;

function continuationOf(progress: Progress, { outputTokensMax }: ChoiceRequest): Continuation {
  const { tokenIds, text, position, idsComplete } = progress;
  if (idsComplete) return { emitted: { tokenIds: [...tokenIds], text }, outputTokensMax };
  // Continued by text, its tokens are counted anew.
  const left = outputTokensMax === null ? null : Math.max(1, outputTokensMax - position);
  return { emitted: { tokenIds: [], text }, outputTokensMax: left };
}
