import { createReadStream, createWriteStream, openAsBlob } from "node:fs";
import { basename } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { BatchClient } from "../../client/batches.ts";
import type { BatchView } from "../../protocol/gateway-api.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import { printableJson } from "../../util/printable.ts";
import { type Context, contextOf } from "../context.ts";
import { createProgress } from "../progress.ts";
import { step, table } from "../terminal.ts";

const lookIntervalMs = 500;
/** A gateway that starts again is waited for. */
const lostLooksMax = 120;
const endedStatuses: readonly string[] = ["completed", "failed", "expired", "cancelled"];
const errorsShownMax = 5;

/** `skein batch submit` */
export async function submitBatch(path: string, command: Command): Promise<void> {
  const context = contextOf(command);
  const { batches } = context.client();
  const { signal } = stoppedByUser();
  const endpoint = await endpointOf(path);
  const window = String(context.flags["window"]);
  const inputId = await batches.upload(await openAsBlob(path), basename(path), signal);
  const request = { input_file_id: inputId, endpoint, completion_window: window };
  const made = await batches.create(request, signal);
  step("done", `handed in as ${made.id}`);
  if (context.flags["detach"] === true) return show(context, made);
  const ended = await watch(batches, made.id, signal);
  await write(context, batches, ended, signal);
  show(context, ended);
  requireCompleted(ended);
}

/** `skein batch status` */
export async function batchStatus(id: string | undefined, command: Command): Promise<void> {
  const context = contextOf(command);
  const { batches } = context.client();
  const { signal } = stoppedByUser();
  if (id !== undefined) return show(context, await batches.get(id, signal));
  const data = await batches.list(signal);
  if (context.flags["json"] === true) {
    console.log(printableJson({ object: "list", data }));
    return;
  }
  if (data.length === 0) {
    console.log("There are no batches. Hand one in: skein batch submit <file.jsonl>");
    return;
  }
  const rows = data.map((batch) => [batch.id, batch.status, countsText(batch), `$${batch.usage.fee.usd}`]);
  console.log(table(["batch", "status", "lines", "fee"], rows));
}

/** `skein batch download` */
export async function downloadBatch(id: string, command: Command): Promise<void> {
  const context = contextOf(command);
  const { batches } = context.client();
  const { signal } = stoppedByUser();
  const batch = await batches.get(id, signal);
  if (!endedStatuses.includes(batch.status)) {
    throw new SkeinError("not_found", `The batch is ${batch.status}: ${countsText(batch)}.`, {
      hint: "It has answers to download when it has ended.",
    });
  }
  await write(context, batches, batch, signal);
  if (context.flags["output"] === undefined && batch.output_file_id !== null) {
    const content = await batches.content(batch.output_file_id, signal);
    await pipeline(Readable.fromWeb(content as never), process.stdout, { end: false });
  } else show(context, batch);
}

/** `skein batch cancel` */
export async function cancelBatch(id: string, command: Command): Promise<void> {
  const context = contextOf(command);
  show(context, await context.client().batches.cancel(id, stoppedByUser().signal));
}

/** What its first line asks for. @throws SkeinError `invalid_config` */
async function endpointOf(path: string): Promise<string> {
  const stream = createReadStream(path);
  const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY });
  try {
    for await (const line of lines) {
      if (line.trim() === "") continue;
      const { url } = JSON.parse(line) as { url?: unknown };
      if (typeof url === "string") return url;
      break;
    }
  } catch (error) {
    throw notBatch(path, error);
  } finally {
    lines.close();
    stream.destroy();
  }
  throw notBatch(path, null);
}

function notBatch(path: string, cause: unknown): SkeinError {
  const { code } = (cause ?? {}) as { code?: string };
  const why = code === "ENOENT" ? "is not there" : "does not begin with a request";
  return new SkeinError("invalid_config", `${path} ${why}.`, {
    hint: 'Each line: {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {…}}',
    cause,
  });
}

/** Shows progress until the batch has ended. Ctrl-C stops the watching only. */
async function watch(batches: BatchClient, id: string, signal: AbortSignal): Promise<BatchView> {
  const progress = createProgress(id);
  let lost = 0;
  try {
    for (;;) {
      try {
        const batch = await batches.get(id, signal);
        lost = 0;
        if (endedStatuses.includes(batch.status)) return batch;
        const { total, completed, failed } = batch.request_counts;
        if (total > 0) progress.show(completed + failed, total);
      } catch (error) {
        if (signal.aborted || toSkeinError(error).code !== "connection_failed" || ++lost > lostLooksMax)
          throw error;
      }
      await sleep(lookIntervalMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) throw signal.reason;
    }
  } finally {
    progress.end();
    if (signal.aborted) step("doing", `it goes on; look with: skein batch status ${id}`);
  }
}

/** Into the files that were named. */
async function write(
  { flags }: Context,
  batches: BatchClient,
  batch: BatchView,
  signal: AbortSignal,
): Promise<void> {
  const wanted = [
    [flags["output"], batch.output_file_id],
    [flags["errors"], batch.error_file_id],
  ];
  for (const [path, fileId] of wanted) {
    if (typeof path !== "string" || typeof fileId !== "string") continue;
    const content = await batches.content(fileId, signal);
    await pipeline(Readable.fromWeb(content as never), createWriteStream(path));
    step("done", `wrote ${path}`);
  }
}

function show({ flags }: Context, batch: BatchView): void {
  if (flags["json"] === true) {
    console.log(printableJson(batch));
    return;
  }
  const { input_tokens: read, output_tokens: written, fee } = batch.usage;
  const usage = `${read} tokens in, ${written} out, $${fee.usd}`;
  console.log(`${batch.id}: ${batch.status}, ${countsText(batch)}, ${usage}`);
  for (const { line, message } of (batch.errors?.data ?? []).slice(0, errorsShownMax)) {
    step("failed", line === null ? message : `line ${line}: ${message}`);
  }
  if (batch.output_file_id !== null && flags["output"] === undefined) {
    step("doing", `answers: skein batch download ${batch.id} --output answers.jsonl`);
  }
}

function countsText({ request_counts: { total, completed, failed } }: BatchView): string {
  return `${completed} of ${total} lines answered${failed > 0 ? `, ${failed} failed` : ""}`;
}

/** @throws SkeinError so that scripts see it */
function requireCompleted({ id, status, request_counts: { failed } }: BatchView): void {
  if (status === "completed" && failed === 0) return;
  const what = status === "completed" ? `${failed} lines of ${id} failed` : `${id} is ${status}`;
  throw new SkeinError("provider_failed", `${what}.`, {
    hint: `skein batch download ${id} --errors errors.jsonl says why.`,
  });
}

function stoppedByUser(): AbortController {
  const stopping = new AbortController();
  process.once("SIGINT", () => stopping.abort(new SkeinError("cancelled", "Stopped.")));
  return stopping;
}
