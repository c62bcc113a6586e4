/** The end of a batch: its lines' results become two files, in the order of the input. */
import type { Change, Store } from "../../store/port.ts";
import { toHex, utf8 } from "../../util/bytes.ts";
import type { FileDeps, Files } from "../files/file-store.ts";
import type { PieceWriter } from "../files/piece-writer.ts";
import { activeKey, type Batch, cleanupKey, inStatus, putBatch } from "./batch.ts";
import { checkLine, type RawLine, readLines } from "./lines.ts";
import type { LineProgress } from "./progress.ts";
import { eachResult, fileLine, type LineResult, neverAsked } from "./results.ts";

/** Lines that are deleted in one go: their keys share all but the last three digits. */
const cleanupDigits = 3;
/** Text that is handed on in one go. */
const writeBytes = 64 * 1024;

const endWords = {
  expired: { code: "batch_expired", message: "The batch's time was over before this line was answered." },
  cancelled: { code: "batch_cancelled", message: "The batch was cancelled before this line was answered." },
} as const;

export interface FinishDeps extends FileDeps {
  readonly files: Files;
  readonly retentionMs: number;
}

/** @param save keeps the record of a batch that goes on @returns the batch as it ended */
export async function finishBatch(
  deps: FinishDeps,
  batch: Batch,
  ending: "completed" | "expired" | "cancelled",
  progress: LineProgress,
  save: (batch: Batch) => Promise<void>,
): Promise<Batch> {
  const { store, clock, files } = deps;
  const { id, owner } = batch;
  // 1. From here on nothing is asked any more; a gateway that ends now does this again.
  const finalizing = ending === "cancelled" ? batch : inStatus(batch, "finalizing", clock.nowMs());
  if (finalizing !== batch) await save(finalizing);
  // 2. Answers into one file, errors into the other.
  const output = new TextWriter(await files.writer(owner, Number.POSITIVE_INFINITY));
  const errors = new TextWriter(await files.writer(owner, Number.POSITIVE_INFINITY));
  for await (const result of allResults(deps, batch, ending)) {
    if (result.isAnswer) await output.write(fileLine(result));
    else await errors.write(fileLine(result));
  }
  const lifetimeMs = batch.outputLifetimeMs;
  const drafts = await Promise.all(
    [output, errors].map(async (writer, i) => {
      const piece = await writer.end();
      if (piece === null) return null;
      const filename = `${id}_${i === 0 ? "output" : "error"}.jsonl`;
      return files.draft(owner, { filename, purpose: "batch_output", pieces: [piece], lifetimeMs });
    }),
  );
  // 3. All of it at once.
  const [outputFile, errorFile] = drafts;
  const { counts } = progress;
  const ended: Batch = inStatus(
    {
      ...finalizing,
      outputFileId: outputFile?.file.id ?? null,
      errorFileId: errorFile?.file.id ?? null,
      counts: { ...counts, failed: counts.total - counts.completed },
    },
    ending,
    clock.nowMs(),
  );
  await store.commit({
    changes: [
      ...drafts.flatMap((draft) => draft?.changes ?? []),
      putBatch(ended, clock.nowMs() + deps.retentionMs),
      { type: "delete", key: activeKey(id) },
      { type: "put", key: cleanupKey(id), value: utf8(String(counts.total)), expiresAtMs: null },
    ],
  });
  await cleanUp(store, id);
  return ended;
}

/** Deletes results of a batch that has ended, little by little: others write meanwhile. */
export async function cleanUp(store: Store, id: string): Promise<void> {
  const prefix = `batch-line/${id}/`;
  for (;;) {
    const [record] = await store.scan({ prefix, limit: 1 });
    if (record === undefined) break;
    const change: Change = { type: "deletePrefix", prefix: record.key.slice(0, -cleanupDigits) };
    await store.commit({ changes: [change] });
  }
  await store.commit({ changes: [{ type: "delete", key: cleanupKey(id) }] });
}

/** Every line's result; of those that have none, that the batch ended before. */
async function* allResults(
  { store, files, random }: FinishDeps,
  batch: Batch,
  ending: "completed" | "expired" | "cancelled",
): AsyncGenerator<LineResult, void> {
  const results = eachResult(store, batch.id);
  let next = await results.next();
  const file = await files.get(batch.owner, batch.inputFileId).catch(() => null);
  // A deleted input no longer says who got no answer.
  if (file !== null && ending !== "completed") {
    for await (const raw of readLines(files.read(file))) {
      const isNext = next.done !== true && next.value.number === raw.number;
      if (!isNext) {
        const id = toHex(random.bytes(12));
        const error = { ...endWords[ending], param: null, line: raw.fileLine };
        yield neverAsked(customIdOf(raw, batch.endpoint, random), id, error);
      } else if (next.done !== true) {
        yield next.value.result;
        next = await results.next();
      }
    }
  }
  for (; next.done !== true; next = await results.next()) yield next.value.result;
}

function customIdOf(raw: RawLine, endpoint: string, random: FileDeps["random"]): string | null {
  let found: string | null = null;
  try {
    checkLine(raw, endpoint, random, (customId) => (found = customId));
  } catch {
    // Whatever else is wrong with it, it was not asked.
  }
  return found;
}

/** Collects lines to larger writes; the writer is dropped when there were none. */
class TextWriter {
  readonly #writer: PieceWriter;
  #text = "";
  #isEmpty = true;

  constructor(writer: PieceWriter) {
    this.#writer = writer;
  }

  async write(text: string): Promise<void> {
    this.#isEmpty = false;
    this.#text += text;
    if (this.#text.length >= writeBytes) await this.#flush();
  }

  async end() {
    if (this.#isEmpty) {
      await this.#writer.drop();
      return null;
    }
    await this.#flush();
    return this.#writer.end();
  }

  async #flush(): Promise<void> {
    await this.#writer.write(utf8(this.#text));
    this.#text = "";
  }
}
