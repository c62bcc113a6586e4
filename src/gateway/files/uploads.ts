/** Uploads in parts: a file that comes in several requests, for slow lines and large files. */
import { createHash } from "node:crypto";
import { z } from "zod";
import type { Change } from "../../store/port.ts";
import { SkeinError } from "../../util/errors.ts";
import { checkShape } from "../requests/check-shape.ts";
import { eachJson, isId, newId, ownerPart, parseRecord, putJson } from "../kept/records.ts";
import {
  dropPiece,
  type FileDeps,
  type Files,
  type Piece,
  type Purpose,
  type StoredFile,
  writingKey,
} from "./file-store.ts";
import { receiveForm } from "./receive.ts";
import { filenameOf, fileView, lifetimeOf, purposeOf } from "./views.ts";

/** As OpenAI has it. */
const lifetimeMs = 3600_000;
/** A record of the file holds where all of them are. */
const partsMax = 1_000;
/** What has ended can still be asked for. */
const keptAfterEndMs: number = 24 * 3600_000;

interface Upload {
  readonly id: string;
  readonly bytes: number;
  readonly filename: string;
  readonly purpose: Purpose;
  readonly mimeType: string;
  readonly fileLifetimeMs: number | null;
  readonly createdMs: number;
  readonly expiresMs: number;
  readonly status: "pending" | "completed" | "cancelled";
  readonly file: StoredFile | null;
}

interface Part {
  readonly id: string;
  readonly createdMs: number;
  readonly piece: Piece;
}

const createSchema = z.looseObject({
  bytes: z.int().min(1),
  filename: z.string().min(1),
  mime_type: z.string().max(255),
  purpose: z.string(),
});
const completeSchema = z.looseObject({
  part_ids: z.array(z.string()).min(1).max(partsMax),
  md5: z
    .string()
    .regex(/^[0-9a-fA-F]{32}$/)
    .nullish(),
});

interface Pending {
  readonly upload: Upload;
  /** The record, for the condition that it is still the same. */
  readonly raw: Uint8Array;
}

export class Uploads {
  readonly #deps: FileDeps;
  readonly #files: Files;

  constructor(deps: FileDeps, files: Files) {
    this.#deps = deps;
    this.#files = files;
  }

  /** @throws SkeinError `invalid_request`, `request_too_large`, `quota_exceeded` */
  async create(owner: string, body: Record<string, unknown>) {
    const given = checkShape(createSchema, body);
    await this.#files.requireRoom(owner, given.bytes);
    const createdMs = this.#deps.clock.nowMs();
    const upload: Upload = {
      id: newId(this.#deps, "upload_"),
      bytes: given.bytes,
      filename: filenameOf(given.filename),
      purpose: purposeOf(given.purpose),
      mimeType: given.mime_type,
      fileLifetimeMs: lifetimeOf(body["expires_after"]),
      createdMs,
      expiresMs: createdMs + lifetimeMs,
      status: "pending",
      file: null,
    };
    await this.#deps.store.commit({ changes: [put(owner, upload)] });
    return uploadView(upload, createdMs);
  }

  async addPart(owner: string, uploadId: string, request: Request) {
    const { upload } = await this.#pending(owner, uploadId);
    const before = await this.#partsOf(upload);
    if (before.length >= partsMax) throw wrong(`An upload has at most ${partsMax} parts.`, "data");
    const leftBytes = upload.bytes - before.reduce((sum, other) => sum + other.piece.bytes, 0);
    const { piece } = await receiveForm(request, "data", await this.#files.writer(owner, leftBytes));
    const part: Part = { id: newId(this.#deps, "part_"), createdMs: this.#deps.clock.nowMs(), piece };
    await this.#deps.store.commit({
      changes: [
        putJson(partKey(upload.id, part.id), part),
        // What is never completed is found again by its time.
        putJson(partDueKey(upload, part), part.piece),
        { type: "delete", key: writingKey(piece.id) },
      ],
    });
    const createdAt = Math.floor(part.createdMs / 1000);
    return { id: part.id, object: "upload.part", created_at: createdAt, upload_id: upload.id };
  }

  /** Makes a file of parts, in the order asked for; the others are deleted. */
  async complete(owner: string, uploadId: string, body: Record<string, unknown>) {
    const { upload, raw } = await this.#pending(owner, uploadId);
    const { part_ids: ids, md5 } = checkShape(completeSchema, body);
    const parts = await this.#partsOf(upload);
    const pieces = piecesOf(parts, ids);
    const bytes = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
    if (bytes !== upload.bytes)
      throw wrong(`The parts have ${bytes} bytes, but ${upload.bytes} were announced.`, "part_ids");
    if (md5 != null) await checkSum(this.#files, upload, pieces, md5);
    const done: Upload = { ...upload, status: "completed" };
    const unused = parts.filter((part) => !ids.includes(part.id));
    const { filename, purpose, fileLifetimeMs } = upload;
    const file = await this.#files.create(
      owner,
      { filename, purpose, pieces, lifetimeMs: fileLifetimeMs },
      {
        changes: [
          put(owner, done),
          ...forgetParts(upload, parts),
          ...unused.flatMap(({ piece }) => dropPiece(piece.id)),
        ],
        conditions: [{ key: keyOf(owner, upload.id), value: raw }],
      },
    );
    if (file === null) throw new SkeinError("conflict", "The upload was completed or cancelled meanwhile.");
    return uploadView({ ...done, file }, this.#deps.clock.nowMs());
  }

  async cancel(owner: string, uploadId: string) {
    const { upload } = await this.#pending(owner, uploadId);
    const parts = await this.#partsOf(upload);
    const cancelled: Upload = { ...upload, status: "cancelled" };
    const dropped = parts.flatMap(({ piece }) => dropPiece(piece.id));
    await this.#deps.store.commit({
      changes: [put(owner, cancelled), ...forgetParts(upload, parts), ...dropped],
    });
    return uploadView(cancelled, this.#deps.clock.nowMs());
  }

  /** @throws SkeinError `not_found`, `conflict` when it has ended */
  async #pending(owner: string, id: string): Promise<Pending> {
    const raw = isId("upload_", id) ? await this.#deps.store.get(keyOf(owner, id)) : null;
    if (raw === null) {
      throw new SkeinError("not_found", `There is no upload '${id.slice(0, 100)}'.`, {
        hint: "It may have expired; begin another one.",
      });
    }
    const upload = parseRecord(raw) as Upload;
    const status = statusOf(upload, this.#deps.clock.nowMs());
    if (status === "pending") return { upload, raw };
    throw new SkeinError("conflict", `The upload is ${status}.`, { hint: "Begin another one." });
  }

  async #partsOf({ id }: Upload): Promise<Part[]> {
    const parts: Part[] = [];
    for await (const { value } of eachJson(this.#deps.store, { prefix: partKey(id, "") })) {
      parts.push(value as Part);
    }
    return parts;
  }
}

/** @throws SkeinError `invalid_request` */
function piecesOf(parts: readonly Part[], ids: readonly string[]): Piece[] {
  return ids.map((id, index) => {
    const found = parts.find((part) => part.id === id);
    if (found !== undefined && ids.indexOf(id) === index) return found.piece;
    throw wrong(
      `'${id.slice(0, 100)}' is no part of this upload, or stands there twice.`,
      `part_ids.${index}`,
    );
  });
}

function forgetParts(upload: Upload, parts: readonly Part[]): Change[] {
  return [
    { type: "deletePrefix", prefix: partKey(upload.id, "") },
    ...parts.map((part): Change => ({ type: "delete", key: partDueKey(upload, part) })),
  ];
}

function wrong(message: string, param: string): SkeinError {
  return new SkeinError("invalid_request", message, { param });
}

/** What an owner has announced and not handed in yet: there is room for it. */
export async function pendingUploads(
  { store, clock }: FileDeps,
  owner: string,
): Promise<{ count: number; bytes: number }> {
  let count = 0;
  let bytes = 0;
  for await (const { value } of eachJson(store, { prefix: keyOf(owner, "") })) {
    count += 1;
    const upload = value as Upload;
    if (statusOf(upload, clock.nowMs()) === "pending") bytes += upload.bytes;
  }
  return { count, bytes };
}

/** Deletes the parts of uploads that nobody completed in time. */
export async function sweepUploads({ store, clock }: FileDeps): Promise<void> {
  for (const { key, value } of await store.scan({ prefix: "upload-due/", limit: partsMax })) {
    if (Number(key.split("/")[1]) > clock.nowMs()) return;
    const piece = parseRecord(value) as Piece;
    await store.commit({ changes: [{ type: "delete", key }, ...dropPiece(piece.id)] });
  }
}

/** @throws SkeinError `invalid_request` */
async function checkSum(files: Files, { id }: Upload, pieces: readonly Piece[], md5: string): Promise<void> {
  const hash = createHash("md5");
  for await (const bytes of files.read({ id, pieces })) hash.update(bytes);
  const found = hash.digest("hex");
  if (found === md5.toLowerCase()) return;
  throw wrong(`The parts' MD5 is ${found}, not ${md5}.`, "md5");
}

function put(owner: string, upload: Upload): Change {
  return putJson(keyOf(owner, upload.id), upload, upload.expiresMs + keptAfterEndMs);
}

function keyOf(owner: string, id: string): string {
  return `upload/${ownerPart(owner)}/${id}`;
}

function partKey(upload: string, part: string): string {
  return `upload-part/${upload}/${part}`;
}

function partDueKey({ expiresMs }: Upload, { id }: Part): string {
  return `upload-due/${String(expiresMs).padStart(15, "0")}/${id}`;
}

function statusOf({ status, expiresMs }: Upload, nowMs: number) {
  return status === "pending" && expiresMs <= nowMs ? "expired" : status;
}

function uploadView(upload: Upload, nowMs: number) {
  return {
    id: upload.id,
    object: "upload" as const,
    bytes: upload.bytes,
    created_at: Math.floor(upload.createdMs / 1000),
    expires_at: Math.floor(upload.expiresMs / 1000),
    filename: upload.filename,
    purpose: upload.purpose,
    status: statusOf(upload, nowMs),
    file: upload.file === null ? null : fileView(upload.file),
  };
}
