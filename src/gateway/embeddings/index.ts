/** POST /v1/embeddings. */
import type { ServedView } from "../../protocol/gateway-api.ts";
import { vectorValues } from "../../protocol/embed.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Bill } from "../answers/answer-request.ts";
import { type CompleteDeps, startDeadline } from "../answers/complete.ts";
import { feeView } from "../answers/views.ts";
import { Stopwatch } from "../attempts/stopwatch.ts";
import { type App, type Asker, type AskerOf, wrongMethod } from "../http/app.ts";
import { withHeaderHints } from "../requests/header-hints.ts";
import { parseBody } from "../requests/parse-body.ts";
import { trustName } from "../requests/parse-hints.ts";
import { type EmbeddedGroup, embedInputs, feeOf } from "./embed.ts";
import { type EmbeddingsRequest, parseEmbeddings } from "./parse.ts";

const path = "/v1/embeddings";
/** As many digits as a 32-bit float needs to be read back as itself. */
const digits = 9;

export function mountEmbeddings(app: App, deps: CompleteDeps, asker: AskerOf): void {
  app.post(path, async (c) => c.json(await answer(deps, c.req.raw, asker(c))));
  app.all(path, (c) => wrongMethod(c, "POST"));
}

async function answer(deps: CompleteDeps, http: Request, asker: Asker) {
  // 1. Check everything that can be checked without a provider.
  const given = parseEmbeddings(withHeaderHints(await parseBody(http), http.headers));
  const hints = deps.access.hintsFor(asker.owner, given.hints);
  if (hints.trust !== null) throw noReceipts();
  const request = { ...given, hints, model: deps.access.resolve(asker.owner, given.model) };
  // 2. No wait is longer than the client's patience.
  const abort = new AbortController();
  const onLeave = (): void => abort.abort(new SkeinError("cancelled", "The client went away."));
  if (http.signal.aborted) onLeave();
  http.signal.addEventListener("abort", onLeave, { once: true });
  return (await answerEmbeddings(deps, request, asker, abort)).body;
}

/**
 * Routes, attempts, and tries again; charges once.
 *
 * @param abort ends it, as does its deadline
 */
export async function answerEmbeddings(
  deps: CompleteDeps,
  request: EmbeddingsRequest,
  asker: Asker & { readonly isBatch?: boolean },
  abort: AbortController,
) {
  const { clock, decisions, metrics } = deps;
  const cancelDeadline = startDeadline(deps, abort, clock.nowMs());
  decisions.began(asker.requestId, asker.owner, request.model);
  const watch = new Stopwatch(clock);
  let errorCode: string | null = null;
  let bill: Bill | null = null;
  try {
    const groups = await embedInputs(deps, request, asker, abort.signal);
    bill = billOf(groups, request.feePercent ?? 100);
    metrics.answered("embeddings", request.model, bill, []);
    return { body: embeddingsObject(deps, request, asker, { groups, bill }), bill };
  } catch (error) {
    const failure = inWordsOf(toSkeinError(error));
    errorCode = failure.code;
    throw failure;
  } finally {
    cancelDeadline();
    decisions.ended(asker.requestId, errorCode ?? "ok", bill);
    metrics.requestEnded("embeddings", request.model, watch.elapsedMs / 1000, errorCode);
  }
}

function billOf(groups: readonly EmbeddedGroup[], feePercent: number): Bill {
  const promptTokens = groups.reduce((sum, group) => sum + group.promptTokens, 0);
  const feeAmount = (feeOf(groups) * BigInt(feePercent) + 99n) / 100n;
  return { promptTokens, cachedTokens: 0, outputTokens: 0, feeAmount };
}

function embeddingsObject(
  { cloudPrice }: CompleteDeps,
  { model, format }: EmbeddingsRequest,
  { requestId }: Asker,
  { groups, bill: { promptTokens, feeAmount } }: { groups: readonly EmbeddedGroup[]; bill: Bill },
) {
  const vectors = groups.flatMap((group) => group.vectors);
  const fee = feeView(feeAmount, { inputTokens: promptTokens, outputTokens: 0 }, cloudPrice);
  return {
    object: "list" as const,
    data: vectors.map((vector, index) => ({
      object: "embedding" as const,
      index,
      embedding: format === "base64" ? Buffer.from(vector).toString("base64") : numbersOf(vector),
    })),
    model,
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens, fee },
    skein: servedView(requestId, groups),
  };
}

function numbersOf(vector: Uint8Array): number[] {
  return Array.from(vectorValues(vector), (value) => Number(value.toPrecision(digits)));
}

function servedView(requestId: string, groups: readonly EmbeddedGroup[]): ServedView {
  const { providerId, offer } = groups[0]!;
  return {
    request_id: requestId,
    provider: providerId,
    model_id: offer.modelId,
    engine: offer.engine,
    attempts: Math.max(...groups.map(({ attempts }) => attempts)),
    receipt: null,
    trust: { asked: trustName(null), given: "none" },
  };
}

function noReceipts(): SkeinError {
  return new SkeinError(
    "unsupported_parameter",
    "Embeddings have no receipts, so 'skein.trust' cannot be kept.",
    {
      param: "skein.trust",
      hint: "Leave it out.",
    },
  );
}

/** Providers call every prompt `messages`, for they do not know how it was asked. */
function inWordsOf(error: SkeinError): SkeinError {
  if (error.param !== "messages" && (error.param !== undefined || error.code !== "invalid_request"))
    return error;
  const { code, message, hint, retry } = error;
  return new SkeinError(code, message, {
    ...(hint === undefined ? {} : { hint }),
    param: "input",
    retry,
    cause: error,
  });
}
