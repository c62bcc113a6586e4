/** /v1/batches: many requests in a file, answered when slots are free, at a lower price. */
import type { Context } from "hono";
import { z } from "zod";
import { SkeinError } from "../../util/errors.ts";
import { type App, type AskerOf, wrongMethod } from "../http/app.ts";
import { checkShape } from "../requests/check-shape.ts";
import type { FileDeps, Files } from "../files/file-store.ts";
import { lifetimeOf } from "../files/views.ts";
import { metadataOf } from "../requests/metadata.ts";
import { parseBody } from "../requests/parse-body.ts";
import { getJson, isId, listPage, newId, ownerPart, parseListQuery, putJson } from "../kept/records.ts";
import { activeKey, type Batch, batchKey, batchView, nothingConsumed, putBatch } from "./batch.ts";
import { batchEndpoints } from "./endpoints.ts";
import type { BatchRunner } from "./runner.ts";

export interface BatchOptions {
  /** What a line costs, of the providers' price. */
  readonly pricePercent: number;
  /** Lines asked at the same time. */
  readonly parallelMax: number;
  /** After the gateway's start: so long providers may take to join before a model counts as unknown. */
  readonly joinGraceMs: number;
}

export const defaultBatchOptions: BatchOptions = { pricePercent: 50, parallelMax: 512, joinGraceMs: 30_000 };

/** As OpenAI has it. */
const listed = { limitDefault: 20, limitMax: 100 };
/** Longer ones would outlive what is kept. */
const windowHoursMax = 7 * 24;

const createSchema = z.looseObject({
  input_file_id: z.string(),
  endpoint: z.string(),
  completion_window: z.string(),
});

type BatchesDeps = FileDeps & { readonly files: Files; readonly runner: BatchRunner };

export function mountBatches(app: App, deps: BatchesDeps, askerOf: AskerOf): void {
  const { store, runner } = deps;
  app.post("/v1/batches", async (c) =>
    c.json(batchView(await createBatch(deps, askerOf(c).owner, await parseBody(c.req.raw)))),
  );
  app.get("/v1/batches", async (c) => {
    const where = { prefix: `batch/${ownerPart(askerOf(c).owner)}/`, idPrefix: "batch_" };
    const view = (record: unknown) =>
      batchView(runner.jobOf((record as Batch).id)?.batch ?? (record as Batch));
    return c.json(await listPage(store, where, parseListQuery(c.req.query(), listed), view));
  });
  app.get("/v1/batches/:id", async (c) => c.json(batchView(await find(deps, c, askerOf))));
  app.post("/v1/batches/:id/cancel", async (c) => {
    const batch = await find(deps, c, askerOf);
    const job = runner.jobOf(batch.id);
    if (job === undefined) throw new SkeinError("conflict", `The batch is ${batch.status} already.`);
    return c.json(batchView(await job.cancel()));
  });
  app.all("/v1/batches", (c) => wrongMethod(c, "GET, POST"));
  app.all("/v1/batches/:id", (c) => wrongMethod(c, "GET"));
  app.all("/v1/batches/:id/cancel", (c) => wrongMethod(c, "POST"));
}

async function find({ store, runner }: BatchesDeps, c: Context, askerOf: AskerOf): Promise<Batch> {
  const id = c.req.param("id")!;
  const { owner } = askerOf(c);
  const kept = isId("batch_", id) ? ((await getJson(store, batchKey(owner, id))) as Batch | null) : null;
  if (kept !== null) return runner.jobOf(id)?.batch ?? kept;
  throw new SkeinError("not_found", `There is no batch '${id.slice(0, 100)}'.`, {
    hint: "GET /v1/batches lists those of this API key.",
  });
}

async function createBatch(deps: BatchesDeps, owner: string, body: Record<string, unknown>): Promise<Batch> {
  const { store, files, runner, clock } = deps;
  // 1. What is asked for.
  const given = checkShape(createSchema, body);
  if (!Object.hasOwn(batchEndpoints, given.endpoint)) {
    throw new SkeinError(
      "invalid_request",
      `'endpoint' must be one of ${Object.keys(batchEndpoints).join(", ")}.`,
      { param: "endpoint" },
    );
  }
  const metadata = metadataOf(body["metadata"]);
  const outputLifetimeMs = lifetimeOf(body["output_expires_after"], "output_expires_after");
  const windowMs = windowOf(given.completion_window);
  const input = await files.get(owner, given.input_file_id, "input_file_id");
  if (input.purpose !== "batch") {
    throw new SkeinError("invalid_request", `The file's purpose is ${input.purpose}, not batch.`, {
      param: "input_file_id",
    });
  }
  runner.requireRoom(owner);
  // 2. From here on it survives.
  const createdMs = clock.nowMs();
  const batch: Batch = {
    id: newId(deps, "batch_"),
    owner,
    endpoint: given.endpoint,
    inputFileId: input.id,
    completionWindow: given.completion_window,
    metadata,
    outputLifetimeMs,
    status: "validating",
    createdMs,
    expiresMs: createdMs + windowMs,
    sinceMs: { validating: createdMs },
    errors: [],
    counts: { total: 0, completed: 0, failed: 0 },
    consumed: { ...nothingConsumed, feeAmount: "0" },
    model: null,
    outputFileId: null,
    errorFileId: null,
  };
  await store.commit({
    changes: [putBatch(batch, null), putJson(activeKey(batch.id), batchKey(owner, batch.id))],
  });
  runner.start(batch);
  return batch;
}

/** @throws SkeinError `invalid_request` */
function windowOf(text: string): number {
  const hours = Number(/^(\d{1,3})h$/.exec(text)?.[1] ?? 0);
  if (hours >= 1 && hours <= windowHoursMax) return hours * 3600_000;
  throw new SkeinError(
    "invalid_request",
    `'completion_window' must be 24h, or from 1h to ${windowHoursMax}h.`,
    {
      param: "completion_window",
    },
  );
}
