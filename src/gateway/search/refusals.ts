/** What a client hears when no provider takes its request. */
import type { Feature } from "../../protocol/offer.ts";
import type { RejectReason } from "../../router/hints.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Directory } from "../directory/directory.ts";

const namesShownMax = 10;

export function modelNotFound(directory: Directory, model: string): SkeinError {
  const offered = directory.entries.flatMap((entry) => entry.models.map(({ name }) => name));
  const names = [...new Set(offered)].toSorted();
  const more = names.length > namesShownMax ? ` and ${names.length - namesShownMax} more` : "";
  const served =
    names.length === 0
      ? "No provider has joined yet."
      : `Served now: ${names.slice(0, namesShownMax).join(", ")}${more}.`;
  return new SkeinError(
    "model_not_found",
    `The model '${model.slice(0, 100)}' is not served by any provider.`,
    { param: "model", hint: served },
  );
}

/** Nobody offers the model at this moment: not found when it never was there, else unavailable. */
export function notOffered(directory: Directory, model: string): SkeinError {
  return directory.wasKnown(model) ? noProvider(model) : modelNotFound(directory, model);
}

export function noProvider(model: string): SkeinError {
  return new SkeinError("no_provider", `No provider of '${model.slice(0, 100)}' is available now.`, {
    hint: "It was served before and may come back; `skein providers` shows what is there.",
  });
}

/** This gateway was started again, and so may its providers find it again. */
export function notBackYet(model: string): SkeinError {
  return new SkeinError("no_provider", `No provider of '${model.slice(0, 100)}' has come back yet.`, {
    hint: "Try again in some seconds: the answer is kept.",
  });
}

/** @param queue how many others wait for the same model, and how long that takes */
export function allBusy(
  model: string,
  providers: number,
  { line, retryAfterSeconds }: { line: number; retryAfterSeconds: number },
): SkeinError {
  const who = providers === 1 ? "The only provider" : `All ${providers} providers`;
  const others = line === 1 ? "1 other request waits" : `${line === 0 ? "no" : line} other requests wait`;
  return new SkeinError(
    "overloaded",
    `${who} of '${model.slice(0, 100)}' ${providers === 1 ? "is" : "are"} busy, and ${others}.`,
    { hint: `Try again in ${retryAfterSeconds} s.`, retryAfterSeconds },
  );
}

/** How offers that a request excludes are, in words that go on after "is" or a number. */
export const reasonWords: Record<RejectReason, string> = {
  not_allowed: "not in skein.allow",
  denied: "in skein.deny",
  other_region: "in another region than skein.region",
  region_doubtful: "whose round trip contradicts that region",
  not_private: "passing prompts on to another server, which skein.private excludes",
  too_expensive: "above skein.max_price",
  unable:
    "without what the request asks for (tools, response_format, logprobs, reasoning_effort, suffix, embeddings)",
  gives_no_receipts: "without receipts, which skein.trust asks for",
  not_exact: "of models whose answers nobody can compute again, as skein.trust asks for",
  another_replica: "taken by another replica of the answer",
  not_auditable: "of models that this gateway cannot compute again, as skein.trust asks for",
  failed_audit: "proved to have answered wrongly for this model",
  too_slow: "predicted to begin later than skein.max_ttft_ms",
  full: "full",
  reserved: "with no slot but those kept free for answers that lost their provider",
  context_too_short: "with too short a context",
  cannot_continue: "unable to continue an answer",
  tried_already: "tried already",
};

/** What asks for a feature, the rarest first. */
const paramNames: readonly (readonly [Feature, string])[] = [
  ["infill", "suffix"],
  ["tools", "tools"],
  ["grammar", "response_format"],
  ["json", "response_format"],
  ["no_thinking", "reasoning_effort"],
  ["logprobs", "logprobs"],
];

/** There are providers, but none that the request accepts. */
export function noneFits(
  model: string,
  refused: ReadonlyMap<RejectReason, number>,
  needs: readonly Feature[],
): SkeinError {
  if (refused.size === 1 && refused.has("unable")) {
    if (needs.includes("embeddings")) return noEmbeddings(model);
    const param = paramNames.find(([feature]) => needs.includes(feature))?.[1] ?? "response_format";
    return new SkeinError(
      "unsupported_parameter",
      `'${param}' is not supported as it is by any provider of '${model.slice(0, 100)}'.`,
      { param, hint: "Leave it out, or choose another model.", retry: "never" },
    );
  }
  const counts = [...refused].map(([reason, count]) => `${count} ${reasonWords[reason]}`).join(", ");
  return new SkeinError(
    "no_provider",
    `No provider of '${model.slice(0, 100)}' fits the request: ${counts}.`,
    {
      param: "skein",
      hint: "Ask for less in 'skein'; `skein providers` shows what is there.",
      retry: "never",
    },
  );
}

function noEmbeddings(model: string): SkeinError {
  return new SkeinError("invalid_request", `No provider of '${model.slice(0, 100)}' makes embeddings.`, {
    param: "model",
    hint: "Choose another model.",
    retry: "never",
  });
}

export function wrongEventId(id: string): SkeinError {
  return new SkeinError("invalid_request", "'Last-Event-ID' is not one of this answer's.", {
    param: "last-event-id",
    hint: `It looks like ${id}:7, as in the 'id' of the last event that came.`,
  });
}
