/** Embeddings over the network: inputs in groups, each at one provider, all of one model identity. */
import { embedInputsMax, type Embedded, type EmbedInput } from "../../protocol/embed.ts";
import { greedySampling, type Prompt } from "../../protocol/generate.ts";
import type { ModelOffer } from "../../protocol/offer.ts";
import { fee } from "../../protocol/price.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import { attemptError, type ChoiceDeps, type ChoiceRequest, emptyProgress } from "../attempts/attempt.ts";
import { retryElsewhere } from "../attempts/retry.ts";
import { Stopwatch } from "../attempts/stopwatch.ts";
import { cacheSaltOf } from "../http/security.ts";
import type { Occupied } from "../search/choose-provider.ts";
import { believedPromptTokens } from "../search/claims.ts";
import { nextCandidate, type Search, type Together } from "../search/search.ts";
import type { EmbeddingsRequest } from "./parse.ts";

/** Groups of one request that are asked at the same time: more would fill a network with one client's work. */
const groupsAtOnceMax = 4;
/** Text of one group: a provider's answer to it shall not keep others waiting for long. */
const groupCharsMax: number = 64 * 1024;

/** What one provider did for a request. */
export interface EmbeddedGroup {
  readonly providerId: string;
  readonly offer: ModelOffer;
  readonly vectors: readonly Uint8Array[];
  readonly promptTokens: number;
  readonly durationMs: number;
  readonly attempts: number;
}

/** @returns groups in the inputs' order. @throws SkeinError the first group's failure */
export async function embedInputs(
  deps: ChoiceDeps,
  request: EmbeddingsRequest,
  { requestId, owner, isBatch = false }: { requestId: string; owner: string; isBatch?: boolean },
  outer: AbortSignal,
): Promise<EmbeddedGroup[]> {
  const together: Together = {
    model: request.model,
    modelId: null,
    // Vectors of different models mean nothing beside each other.
    allowOtherModels: false,
    // As for completions: a batch does not make others of the same API key wait.
    owner: isBatch ? `batch:${owner}` : owner,
    isBatch,
    hints: request.hints,
    restartable: true,
  };
  const abort = new AbortController();
  const signal = AbortSignal.any([outer, abort.signal]);
  const groups = groupsOf(request.inputs);
  const done: EmbeddedGroup[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < groups.length) {
      const index = next++;
      const asked = { requestId, inputs: groups[index]!, dimensions: request.dimensions };
      done[index] = await embedGroup(deps, together, asked, signal);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(groupsAtOnceMax, groups.length) }, work));
  } finally {
    abort.abort(new SkeinError("cancelled", "The request ended."));
  }
  return done;
}

function groupsOf(inputs: readonly EmbedInput[]): EmbedInput[][] {
  const groups: EmbedInput[][] = [];
  let chars = Number.POSITIVE_INFINITY;
  for (const input of inputs) {
    const more = charsOf(input);
    const last = groups.at(-1);
    if (last === undefined || last.length === embedInputsMax || chars + more > groupCharsMax) {
      groups.push([input]);
      chars = more;
    } else {
      last.push(input);
      chars += more;
    }
  }
  return groups;
}

function charsOf(input: EmbedInput): number {
  return input.kind === "text" ? input.text.length : 4 * input.tokenIds.length;
}

interface Asked {
  readonly requestId: string;
  readonly inputs: readonly EmbedInput[];
  readonly dimensions: number | null;
}

/** A group's own way from provider to provider: whatever fails is asked again elsewhere, from the start. */
async function embedGroup(
  deps: ChoiceDeps,
  together: Together,
  asked: Asked,
  signal: AbortSignal,
): Promise<EmbeddedGroup> {
  const watch = new Stopwatch(deps.clock);
  const wish = { request: routed(asked), progress: emptyProgress() };
  const search: Search = {
    prompt: wish.request.prompt,
    home: null,
    tried: new Set(),
    ticket: deps.waitingRoom.ticket(),
    watch,
    attempts: 0,
    fruitlessAttempts: 0,
    failedPosition: 0,
    refused: false,
    waitedMs: 0,
    contextTokensMin: 0,
    failure: null,
  };
  for (;;) {
    const to = await nextCandidate(deps, together, search, wish, signal);
    search.tried.add(to.candidate.providerId);
    try {
      const ended = to.madeRoom === null ? signal : AbortSignal.any([signal, to.madeRoom]);
      const group = await attempt(deps, asked, to, ended);
      deps.metrics.attempted("ok");
      return { ...group, attempts: search.attempts + 1 };
    } catch (thrown) {
      const error = attemptError(thrown, { wasQueued: false, isBegun: false });
      const { requestId } = asked;
      const { madeRoom } = to;
      retryElsewhere(deps, { requestId, to, madeRoom, together, search, signal, position: 0 }, error);
    }
  }
}

async function attempt(
  deps: ChoiceDeps,
  { requestId, inputs, dimensions }: Asked,
  to: Occupied,
  signal: AbortSignal,
): Promise<Omit<EmbeddedGroup, "attempts">> {
  const { entry, candidate, owner } = to;
  const { providerId, offer } = candidate;
  const watch = new Stopwatch(deps.clock);
  const guard = watch.guard(signal);
  const timeoutMs = deps.limits.firstTokenTimeoutMs;
  guard.limit(timeoutMs, "make the embeddings");
  try {
    const { modelId } = offer;
    const cacheSalt = cacheSaltOf(deps.salt, owner);
    const request = { requestId, modelId, inputs, dimensions, cacheSalt, timeoutMs };
    const embedded = await entry.session.embed?.(request, guard.signal);
    if (embedded === undefined) throw new SkeinError("provider_failed", "The provider makes no embeddings.");
    deps.directory.reportService(entry, modelId);
    const durationMs = Math.floor(Math.min(embedded.durationMs, watch.elapsedMs));
    const promptTokens = believed(embedded, inputs);
    return { providerId, offer, vectors: embedded.vectors, promptTokens, durationMs };
  } catch (error) {
    throw toSkeinError(error, "provider_failed");
  } finally {
    guard.release();
    to.leave();
    deps.directory.reportRoom();
  }
}

function believed({ promptTokens }: Embedded, inputs: readonly EmbedInput[]): number {
  const most = inputs.reduce((sum, input) => sum + believedPromptTokens(Number.MAX_SAFE_INTEGER, input), 0);
  return Math.min(promptTokens, most);
}

/** As the router sees it: much to read, nothing to write. */
function routed({ requestId, inputs }: Asked): ChoiceRequest {
  return {
    requestId,
    prompt: joined(inputs),
    sampling: greedySampling,
    stop: [],
    constraint: null,
    logprobs: null,
    outputTokensMax: 1,
    chargesPrompt: true,
  };
}

function joined(inputs: readonly EmbedInput[]): Prompt {
  const tokenIds = inputs.flatMap((input) => (input.kind === "tokens" ? input.tokenIds : []));
  if (tokenIds.length > 0) return { kind: "tokens", tokenIds };
  return { kind: "text", text: inputs.map((input) => (input.kind === "text" ? input.text : "")).join("\n") };
}

/** What one provider did at one price is rounded once, upwards. */
export function feeOf(groups: readonly EmbeddedGroup[]): bigint {
  const charges = new Map<string, { offer: ModelOffer; inputTokens: number; durationMs: number }>();
  for (const { providerId, offer, promptTokens, durationMs } of groups) {
    const { inputPerMillionTokens, perSecond } = offer.price;
    const key = [providerId, inputPerMillionTokens, perSecond].join();
    const charge = charges.get(key) ?? { offer, inputTokens: 0, durationMs: 0 };
    charge.inputTokens += promptTokens;
    charge.durationMs += durationMs;
    charges.set(key, charge);
  }
  let amount = 0n;
  for (const { offer, ...consumption } of charges.values())
    amount += fee(offer.price, { ...consumption, outputTokens: 0 });
  return amount;
}
