/**
 * Files in the store: a record about each, its bytes in pieces of records of at most 1 MiB. A file belongs to one API
 * key and is gone when its time is over. What it holds is never logged.
 */
import type { Change, Condition, Store } from "../../store/port.ts";
import type { Clock } from "../../util/clock.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Logger } from "../../util/log.ts";
import type { Random } from "../../util/random.ts";
import {
  eachJson,
  getJson,
  isId,
  listPage,
  type ListQuery,
  newId,
  ownerPart,
  type Page,
  putJson,
  timeOf,
} from "../kept/records.ts";
import { PieceWriter } from "./piece-writer.ts";
import { pendingUploads, sweepUploads } from "./uploads.ts";

export interface FileLimits {
  /** One file. */
  readonly fileBytesMax: number;
  /** All files of one API key. */
  readonly ownerBytesMax: number;
  /** How long a file is kept that does not say so itself. */
  readonly retentionMs: number;
}

const MiB = 1024 * 1024;
const dayMs = 24 * 3600_000;

export const defaultFileLimits: FileLimits = {
  fileBytesMax: 512 * MiB,
  ownerBytesMax: 4096 * MiB,
  retentionMs: 30 * dayMs,
};

/** Files of one API key; a list of them is looked through. */
const ownerFilesMax = 10_000;
const sweepIntervalMs = 30_000;
/** Files that one sweep deletes. */
const sweepFilesMax = 1_000;

export type Purpose =
  | "assistants"
  | "batch"
  | "batch_output"
  | "evals"
  | "fine-tune"
  | "user_data"
  | "vision";

/** Bytes that were written in one go. */
export interface Piece {
  readonly id: string;
  readonly records: number;
  readonly bytes: number;
}

export interface StoredFile {
  readonly id: string;
  readonly filename: string;
  readonly purpose: Purpose;
  readonly bytes: number;
  readonly createdMs: number;
  readonly expiresMs: number;
  readonly pieces: readonly Piece[];
}

/** `lifetimeMs` null: as long as files are kept that do not say so */
type FileFacts = Pick<StoredFile, "filename" | "purpose" | "pieces"> & {
  readonly lifetimeMs?: number | null;
};

export interface FileDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

export class Files {
  readonly limits: FileLimits;
  readonly #deps: FileDeps;
  /** Bytes of each owner that are being written. */
  readonly #writing = new Map<string, number>();
  readonly #startMs: number;
  /** One after another, so that each sees what the one before took. */
  #adding: Promise<unknown> = Promise.resolve();
  #cancelSweep = (): void => undefined;

  constructor(deps: FileDeps, limits: FileLimits) {
    this.#deps = deps;
    this.limits = limits;
    this.#startMs = deps.clock.nowMs();
    this.#scheduleSweep();
    // Whatever a gateway that ended was writing belongs to nobody.
    this.#dropUnfinished().catch((error: unknown) => this.#logFailure(error));
  }

  close(): void {
    this.#cancelSweep();
  }

  /**
   * Begins to write bytes for an owner.
   *
   * @param reservedBytes for which there is room already: an announced upload, or what the gateway itself writes
   * @throws SkeinError `quota_exceeded`
   */
  async writer(owner: string, reservedBytes: number | null = null): Promise<PieceWriter> {
    const usedBytes = reservedBytes === null ? await this.#usedBytes(owner) : 0;
    const piece = newId(this.#deps, "");
    let bytes = 0;
    const count = (more: number): void => {
      bytes += more;
      const writing = (this.#writing.get(owner) ?? 0) + more;
      this.#writing.set(owner, writing);
      if (bytes > (reservedBytes ?? this.limits.fileBytesMax)) throw this.tooLarge(reservedBytes);
      if (reservedBytes === null && usedBytes + writing > this.limits.ownerBytesMax)
        throw this.quotaExceeded();
    };
    const ended = (): void => {
      const left = (this.#writing.get(owner) ?? 0) - bytes;
      if (left > 0) this.#writing.set(owner, left);
      else this.#writing.delete(owner);
    };
    return new PieceWriter(this.#deps.store, piece, { count, ended });
  }

  /** Makes a file of written pieces, together with other changes. Null: a condition did not hold. */
  async create(
    owner: string,
    facts: FileFacts,
    also: { changes: readonly Change[]; conditions: readonly Condition[] } = { changes: [], conditions: [] },
  ): Promise<StoredFile | null> {
    const { file, changes } = this.draft(owner, facts);
    const done = await this.#deps.store.commit({
      changes: [...changes, ...also.changes],
      conditions: also.conditions,
    });
    return done ? file : null;
  }

  /** A file, and the changes that make it. */
  draft(owner: string, facts: FileFacts): { file: StoredFile; changes: Change[] } {
    const createdMs = this.#deps.clock.nowMs();
    const { filename, purpose, pieces } = facts;
    const file: StoredFile = {
      id: newId(this.#deps, "file-"),
      filename,
      purpose,
      bytes: pieces.reduce((sum, piece) => sum + piece.bytes, 0),
      createdMs,
      expiresMs: createdMs + (facts.lifetimeMs ?? this.limits.retentionMs),
      pieces,
    };
    const changes: Change[] = [
      putJson(keyOf(owner, file.id), file),
      putJson(dueKey(file.expiresMs, owner, file.id), null),
      ...pieces.map(({ id }): Change => ({ type: "delete", key: writingKey(id) })),
    ];
    return { file, changes };
  }

  /** @throws SkeinError `not_found`; also for somebody else's, which is nobody's business */
  async get(owner: string, id: string, param: string | null = null): Promise<StoredFile> {
    const file = isId("file-", id)
      ? ((await getJson(this.#deps.store, keyOf(owner, id))) as StoredFile | null)
      : null;
    if (file !== null && file.expiresMs > this.#deps.clock.nowMs()) return file;
    throw new SkeinError("not_found", `There is no file '${id.slice(0, 100)}'.`, {
      hint: "It may have expired, or belong to another API key; GET /v1/files lists what is there.",
      ...(param === null ? {} : { param }),
    });
  }

  list<V extends { readonly id: string }>(
    owner: string,
    query: ListQuery,
    view: (file: StoredFile) => V | null,
  ): Promise<Page<V>> {
    const nowMs = this.#deps.clock.nowMs();
    const where = { prefix: keyOf(owner, ""), idPrefix: "file-" };
    return listPage(this.#deps.store, where, query, (record) => {
      const file = record as StoredFile;
      return file.expiresMs > nowMs ? view(file) : null;
    });
  }

  async delete(owner: string, file: StoredFile): Promise<void> {
    await this.#deps.store.commit({ changes: deletionOf(owner, file) });
  }

  /** A file's bytes in order. @throws SkeinError `not_found` when it is deleted meanwhile */
  async *read({ id: fileId, pieces }: Pick<StoredFile, "id" | "pieces">): AsyncGenerator<Uint8Array, void> {
    for (const { id, records } of pieces) {
      for (let number = 0; number < records; number++) {
        const bytes = await this.#deps.store.get(dataKey(id, number));
        if (bytes === null) throw new SkeinError("not_found", `The file ${fileId} was deleted meanwhile.`);
        yield bytes;
      }
    }
  }

  tooLarge(announcedBytes: number | null = null): SkeinError {
    if (announcedBytes !== null) {
      return new SkeinError("invalid_request", "The parts have more bytes than were announced.", {
        param: "data",
      });
    }
    return new SkeinError("request_too_large", `The file is larger than ${this.limits.fileBytesMax} bytes.`, {
      param: "file",
      hint: "Divide it, or ask the gateway's operator to raise fileMegabytesMax.",
    });
  }

  /** What an owner's files and announced uploads take. @throws SkeinError `quota_exceeded` when they are too many */
  async #usedBytes(owner: string): Promise<number> {
    let bytes = 0;
    let files = 0;
    for await (const { value } of eachJson(this.#deps.store, { prefix: keyOf(owner, "") })) {
      bytes += (value as StoredFile).bytes;
      files += 1;
    }
    const uploads = await pendingUploads(this.#deps, owner);
    if (files + uploads.count >= ownerFilesMax) throw this.quotaExceeded();
    return bytes + uploads.bytes;
  }

  /** Makes a file of what a client has sent, if there is still room: others were sent meanwhile. @throws SkeinError `quota_exceeded` */
  add(owner: string, facts: FileFacts): Promise<StoredFile> {
    const adding = this.#adding.then(async () => {
      await this.requireRoom(owner, facts.pieces[0]!.bytes);
      return (await this.create(owner, facts))!;
    });
    this.#adding = adding.catch(() => undefined);
    return adding;
  }

  /** @throws SkeinError `quota_exceeded` when so many bytes more are too many */
  async requireRoom(owner: string, bytes: number): Promise<void> {
    if (bytes > this.limits.fileBytesMax) throw this.tooLarge();
    const writing = this.#writing.get(owner) ?? 0;
    if ((await this.#usedBytes(owner)) + writing + bytes > this.limits.ownerBytesMax)
      throw this.quotaExceeded();
  }

  quotaExceeded(): SkeinError {
    const { ownerBytesMax } = this.limits;
    return new SkeinError(
      "quota_exceeded",
      `The files of this API key are more than ${ownerBytesMax} bytes, or more than ${ownerFilesMax}.`,
      { param: "file", hint: "Delete some: DELETE /v1/files/{id}." },
    );
  }

  #scheduleSweep(): void {
    this.#cancelSweep = this.#deps.clock.schedule(sweepIntervalMs, () => {
      this.#sweep().catch((error: unknown) => this.#logFailure(error));
      this.#scheduleSweep();
    });
  }

  /** Deletes files whose time is over. */
  async #sweep(): Promise<void> {
    const { store, clock } = this.#deps;
    await sweepUploads(this.#deps);
    for (const { key } of await store.scan({ prefix: "file-due/", limit: sweepFilesMax })) {
      const [, dueMs, owner, id] = key.split("/");
      if (Number(dueMs) > clock.nowMs()) return;
      const file = (await getJson(store, `file/${owner}/${id}`)) as StoredFile | null;
      const changes: Change[] = [{ type: "delete", key }];
      if (file !== null) changes.push(...deletionOf(owner === "open" ? "" : owner!, file));
      await store.commit({ changes });
    }
  }

  async #dropUnfinished(): Promise<void> {
    const { store } = this.#deps;
    for await (const { key } of eachJson(store, { prefix: "file-writing/" })) {
      const piece = key.slice("file-writing/".length);
      if (timeOf(piece) >= this.#startMs) return;
      await store.commit({ changes: dropPiece(piece) });
    }
  }

  #logFailure(error: unknown): void {
    this.#deps.log.warn({ reason: toSkeinError(error).message }, "files could not be tidied up");
  }
}

function keyOf(owner: string, id: string): string {
  return `file/${ownerPart(owner)}/${id}`;
}

function dueKey(expiresMs: number, owner: string, id: string): string {
  return `file-due/${String(expiresMs).padStart(15, "0")}/${ownerPart(owner)}/${id}`;
}

/** There while a piece belongs to no file yet. */
export function writingKey(piece: string): string {
  return `file-writing/${piece}`;
}

export function dataKey(piece: string, number: number): string {
  return `file-data/${piece}/${String(number).padStart(6, "0")}`;
}

/** Deletes bytes that belong to no file. */
export function dropPiece(piece: string): Change[] {
  return [
    { type: "deletePrefix", prefix: `file-data/${piece}/` },
    { type: "delete", key: writingKey(piece) },
  ];
}

function deletionOf(owner: string, { id, expiresMs, pieces }: StoredFile): Change[] {
  return [
    { type: "delete", key: keyOf(owner, id) },
    { type: "delete", key: dueKey(expiresMs, owner, id) },
    ...pieces.flatMap((piece) => dropPiece(piece.id)),
  ];
}
