/**
 * The gateway: an OpenAI-compatible door to the joined providers, as one web-standard request handler.
 * Everything it needs comes from outside, so it runs without sockets too.
 */
import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import type { ProviderSession } from "../network/session.ts";
import type { GatewayView, ProviderView, RequestView } from "../protocol/gateway-api.ts";
import type { ReceiptDocumentView } from "../receipt/document.ts";
import { PrefixCache } from "../router/prefix-cache.ts";
import { toHex } from "../util/bytes.ts";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import { ignore } from "../util/sink.ts";
import { type App, type Asker, errorResponse, unknownPath, wrongMethod } from "./http/app.ts";
import { mountAudits } from "./audits/endpoints.ts";
import { canaryOwner } from "./audits/index.ts";
import { openAudits } from "./audits/open.ts";
import { Reputations } from "./audits/reputations.ts";
import { complete, type CompleteDeps, startAnswer } from "./answers/complete.ts";
import { Cloud, watchBudget } from "./search/cloud.ts";
import { Decisions } from "./search/decisions.ts";
import { Directory } from "./directory/directory.ts";
import { FairShare } from "./search/fair-share.ts";
import { HedgeBudget } from "./attempts/hedge-budget.ts";
import { Journals } from "./resume/journal.ts";
import { createLinePath } from "./batches/answer-lines.ts";
import { freeSlots } from "./batches/free-slots.ts";
import { defaultBatchOptions, mountBatches } from "./batches/index.ts";
import { BatchRunner } from "./batches/runner.ts";
import { Files, defaultFileLimits } from "./files/file-store.ts";
import { mountFiles } from "./files/index.ts";
import { createMetrics } from "./metrics.ts";
import { mountStoredChat } from "./chat/stored.ts";
import { KeptRecords } from "./kept/kept-records.ts";
import { newId } from "./kept/records.ts";
import { mountResponses } from "./responses/index.ts";
import { Responses } from "./responses/responses.ts";
import { rateLimitHeaders, RateLimits } from "./http/rate-limits.ts";
import { createIdempotency } from "./http/idempotency.ts";
import { mountEmbeddings } from "./embeddings/index.ts";
import { isMessagesPath } from "./messages/path.ts";
import { mountMessages } from "./messages/index.ts";
import { mountUnoffered } from "./http/unoffered.ts";
import { ModelAccess } from "./requests/model-access.ts";
import type { GatewayDeps, GatewayOptions } from "./options.ts";
import { countView, quote } from "./requests/quote.ts";
import { Receipts } from "./attempts/receipts.ts";
import { modelNotFound } from "./search/refusals.ts";
import { ResumableStreams } from "./resume/resumable-streams.ts";
import { cancelAnswer, plainId, resumeAnswer } from "./resume/resume-endpoint.ts";
import { type AccessRules, checkApiKey, checkOrigin, ownerOf } from "./http/security.ts";
import { listModels, type ListedModel, providerView } from "./answers/views.ts";
import { Ticker } from "./attempts/ticker.ts";
import { WaitingRoom } from "./search/waiting-room.ts";

export type { CloudPrice, GatewayOptions } from "./options.ts";

/** Of the API that is spoken here; there has been one. */
const openaiVersion = "2020-10-01";

export interface Gateway {
  /** Answers one HTTP request; never rejects. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** What is served, but for what only refuses. */
  readonly endpoints: readonly { readonly method: string; readonly path: string }[];
  /** Takes in a provider whose session is established. */
  addSession(session: ProviderSession): void;
  /** Ends all sessions; running requests fail. */
  close(): void;
}

export function createGateway(deps: GatewayDeps, options: GatewayOptions): Gateway {
  const reputations = options.audits === undefined ? null : new Reputations(deps);
  const directory = new Directory(deps, options.policy, reputations, options.region);
  const share = new FairShare(deps.clock);
  const waitingRoom = new WaitingRoom(deps.clock, share);
  directory.onChange(() => waitingRoom.wake());
  const metrics = createMetrics(directory, waitingRoom);
  const journals = new Journals(deps, options.limits);
  const streams = new ResumableStreams({ clock: deps.clock, graceMs: options.limits.resumeGraceMs });
  const noRateLimits = { requestsPerMinute: null, tokensPerMinute: null };
  const rates = new RateLimits(deps.clock, options.rateLimits ?? noRateLimits);
  const fileLimits = options.files ?? defaultFileLimits;
  const access = new ModelAccess(directory, options.modelAccess ?? {});
  const opened = openAudits(deps, options.audits, { directory, reputations });
  const path: CompleteDeps = {
    ...deps,
    directory,
    audits: opened.audits,
    prefixes: new PrefixCache(),
    decisions: new Decisions(deps.clock, directory, options.cloudPrice, (owner, bill) =>
      rates.consumed(owner, bill.promptTokens + bill.outputTokens),
    ),
    salt: toHex(deps.random.bytes(16)),
    waitingRoom,
    share,
    hedges: new HedgeBudget(),
    ticker: new Ticker(deps.clock, options.policy.move),
    cloud: options.cloud === null ? null : new Cloud({ directory, share }, options.cloud),
    metrics,
    receipts: options.receipts === undefined ? null : new Receipts(deps, options.receipts),
    limits: options.limits,
    cloudPrice: options.cloudPrice,
    streams,
    journals,
    access,
    keptChat: new KeptRecords(
      deps,
      { name: "chat", idPrefix: "chatcmpl-", what: "stored completion" },
      fileLimits.retentionMs,
    ),
  };
  const files = new Files(deps, fileLimits);
  const batchOptions = options.batches ?? defaultBatchOptions;
  const runner = new BatchRunner(
    {
      ...deps,
      ...createLinePath(path, access, batchOptions),
      files,
      retentionMs: files.limits.retentionMs,
    },
    {
      parallelMax: batchOptions.parallelMax,
      freeSlots: (given) => {
        const model = access.aliases.get(given) ?? given;
        const free = freeSlots(path, model, batchOptions.parallelMax);
        // Those that had to make room go first.
        return free - waitingRoom.batchLineLength(model);
      },
    },
  );
  directory.onChange(() => runner.wake());
  if (options.cloud !== null) watchBudget(metrics, options.cloud.budget);
  metrics.watch("skein_batches", "Batches that have not ended.", () => runner.batches);
  metrics.watch("skein_batch_lines_running", "Lines of batches that are asked now.", () => runner.asking);
  void runner.resume();
  const { audits } = opened;
  if (audits !== null) {
    const { wakefulness } = audits;
    metrics.watch(
      "skein_audits_dropped",
      "Receipts that were not audited for lack of room.",
      () => audits.dropped,
    );
    metrics.watch(
      "skein_audit_faults_found",
      "Planted faults that this gateway's checker found.",
      () => wakefulness.counts.found,
    );
    metrics.watch(
      "skein_audit_faults_passed",
      "Planted faults that it passed: its verdicts are not used until it finds one.",
      () => wakefulness.counts.passed,
    );
    metrics.watch("skein_audit_checker_asleep", "1 while its verdicts are not used.", () =>
      Number(wakefulness.counts.isAsleep),
    );
  }
  opened.startCanaries(async (request, requestId) => {
    const asking = { requestId, owner: canaryOwner };
    await startAnswer(path, request, asking, new AbortController()).run(ignore);
  });
  const app: App = new Hono();

  app.use(async (c, next) => {
    await next();
    metrics.responded(c.req.path, c.res.status, c.get("errorCode") ?? "");
  });
  // 1. Who asks?
  app.use(async (c, next) => {
    c.set("requestId", newId(deps, ""));
    c.header("x-request-id", `req_${c.get("requestId")}`);
    checkOrigin(c.req.raw, options);
    const startMs = deps.clock.monotonicMs();
    await next();
    // Not by `c.header`, which makes another Response each time.
    const { headers } = c.res;
    headers.set("openai-processing-ms", String(Math.round(deps.clock.monotonicMs() - startMs)));
    headers.set("openai-version", openaiVersion);
    // As Anthropic's clients look for it.
    if (isMessagesPath(c.req.path)) headers.set("request-id", `req_${c.get("requestId")}`);
    // A handler's own Response does not have what was prepared here.
    headers.set("x-request-id", `req_${c.get("requestId")}`);
  });
  if (options.corsOrigins.length > 0) {
    app.use(
      cors({
        origin: [...options.corsOrigins],
        exposeHeaders: [
          "x-request-id",
          "x-skein-resume",
          "x-skein-receipt",
          "retry-after",
          ...rateLimitHeaders,
        ],
      }),
    );
  }
  app.use(async (c, next) => {
    // Providers that want to join, and load balancers, have no API key.
    if (!["/healthz", "/skein/v1/gateway"].includes(c.req.path)) checkApiKey(c.req.raw, keysFor(c, options));
    await next();
  });

  app.use(createIdempotency(deps, (c) => ownerOf(c.req.raw, options)));
  app.use(rates.middleware((c) => ownerOf(c.req.raw, options)));

  // 2. OpenAI's endpoints, and Anthropic's.
  const asker = (c: Context): Asker => ({
    requestId: c.get("requestId") as string,
    owner: ownerOf(c.req.raw, options),
  });
  app.post("/v1/chat/completions", (c) => complete(path, "chat", c.req.raw, asker(c)));
  app.post("/v1/completions", (c) => complete(path, "text", c.req.raw, asker(c)));
  const modelsFor = (c: Context): ListedModel[] =>
    listModels(directory, path.cloud, access.aliases).filter(({ name }) =>
      access.mayUse(asker(c).owner, name),
    );
  app.get("/v1/models", (c) => c.json({ object: "list", data: modelsFor(c).map(modelObject) }));
  app.get("/v1/models/:id{.+}", (c) =>
    c.json(modelObject(findModel(directory, modelsFor(c), c.req.param("id")))),
  );

  const responses = new Responses(
    path,
    new KeptRecords(
      deps,
      { name: "response", idPrefix: "resp_", what: "stored response" },
      fileLimits.retentionMs,
    ),
  );
  void responses.resume();
  mountResponses(app, path, responses, asker);
  mountEmbeddings(app, path, asker);
  mountMessages(app, path, asker);
  mountStoredChat(app, path.keptChat, asker);
  mountFiles(app, deps, files, asker);
  mountBatches(app, { ...deps, files, runner }, asker);

  // 3. Skein's own.
  app.get("/v1/requests/:id/events", (c) => resumeAnswer(path, c.req.raw, c.req.param("id"), asker(c)));
  app.delete("/v1/requests/:id/events", (c) => cancelAnswer(path, c.req.param("id"), asker(c)));
  app.post("/v1/count_tokens", async (c) => c.json(await countView(path, c.req.raw, asker(c).owner)));
  app.post("/v1/quote", async (c) => c.json(await quote(path, c.req.raw, asker(c).owner)));
  app.get("/v1/requests/:id/receipt", async (c) =>
    c.json(await findReceipt(path, c.req.param("id"), asker(c).owner)),
  );
  app.get("/v1/requests/:id", (c) => c.json(findRequest(path, c.req.param("id"), asker(c).owner)));
  app.get("/skein/v1/gateway", (c) => c.json(gatewayView(deps, options, directory)));
  app.get("/skein/v1/providers", (c) =>
    c.json({
      object: "list",
      data: directory.entries.map((entry) => providerView(entry, options.policy)),
    } satisfies {
      object: string;
      data: ProviderView[];
    }),
  );
  mountAudits(app, { directory, reputations, ...opened }, asker);
  app.get("/healthz", (c) => c.json({ status: "ok", providers: directory.entries.length }));
  app.get("/metrics", async (c) => {
    const { body, contentType } = await metrics.text();
    return c.body(body, 200, { "content-type": contentType });
  });

  // 4. Everything else is an error in OpenAI's shape.
  mountUnoffered(app);
  for (const known of ["/v1/completions", "/v1/quote", "/v1/count_tokens"]) {
    app.all(known, (c) => wrongMethod(c, "POST"));
  }
  for (const known of [
    "/v1/models",
    "/v1/models/:id{.+}",
    "/v1/requests/:id",
    "/skein/v1/gateway",
    "/skein/v1/providers",
    "/skein/v1/providers/:id",
    "/skein/v1/audits/:receipt",
    "/skein/v1/beacons",
    "/healthz",
    "/metrics",
    "/v1/requests/:id/events",
    "/v1/requests/:id/receipt",
  ]) {
    app.all(known, (c) => wrongMethod(c, "GET"));
  }
  app.all("/skein/v1/audits", (c) => wrongMethod(c, "GET, POST"));
  app.notFound((c) => errorResponse(c, unknownPath(c)));
  app.onError((error, c) => {
    const failure = toSkeinError(error);
    if (failure.code === "internal_error") deps.log.error({ error: String(error.stack) }, "request failed");
    return errorResponse(c, failure);
  });

  return {
    fetch: async (request) => app.fetch(request),
    endpoints: app.routes
      .filter(({ method }) => method !== "ALL")
      .map(({ method, path: served }) => ({ method, path: served })),
    addSession: (session) => directory.add(session),
    close: () => {
      journals.freeze();
      opened.close();
      files.close();
      runner.close();
      responses.close();
      directory.close();
    },
  };
}

function modelObject({ name, sinceMs, view }: ListedModel) {
  return {
    id: name,
    object: "model" as const,
    created: Math.floor(sinceMs / 1000),
    owned_by: "skein",
    skein: view,
  };
}

function findModel(directory: Directory, models: readonly ListedModel[], id: string): ListedModel {
  // An alias, a name, an identity, or a name with the beginning of its identity's hash.
  const name = directory.offersOf(id)[0]?.offer.name;
  const found = models.find((model) => model.name === id) ?? models.find((model) => model.name === name);
  if (found !== undefined) return found;
  throw modelNotFound(directory, id);
}

/** @param id as it stands in `skein.request_id`, in the answer's `id`, or in the header `x-request-id` */
/** Who joined finds in the list of providers why it gets no work. */
function keysFor({ req }: Context, options: GatewayOptions): AccessRules {
  const { apiKeys, joinToken } = options;
  if (joinToken == null || apiKeys.length === 0 || req.path !== "/skein/v1/providers") return options;
  return { ...options, apiKeys: [...apiKeys, joinToken] };
}

function findRequest({ decisions }: CompleteDeps, id: string, owner: string): RequestView {
  const found = decisions.view(plainId(id), owner);
  if (found !== null) return found;
  throw new SkeinError("not_found", `There is no request '${id.slice(0, 100)}'.`, {
    hint: "The latest ones are kept, and shown only to the API key that asked.",
  });
}

async function findReceipt(
  { receipts }: CompleteDeps,
  id: string,
  owner: string,
): Promise<ReceiptDocumentView> {
  const found = (await receipts?.view(owner, plainId(id))) ?? null;
  if (found !== null) return found;
  throw new SkeinError("not_found", `There is no receipt of '${id.slice(0, 100)}'.`, {
    hint: "Receipts are kept for a while (receiptHours), and shown only to the API key that asked.",
  });
}

function gatewayView(deps: GatewayDeps, options: GatewayOptions, directory: Directory): GatewayView {
  return {
    peer_id: options.gatewayId,
    addresses: [...options.joinAddresses()],
    version: options.version,
    join: options.join,
    providers: directory.entries.length,
    now_ms: deps.clock.nowMs(),
  };
}
