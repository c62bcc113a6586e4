/** The store's file: one table of an SQLite database, and batches in groups (runs in the thread of the store). */
import { closeSync, openSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { equalBytes } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";
import type { Batch, Change, Scan, StoredRecord } from "./port.ts";
import { prefixEnd, scanBytesMax } from "./port.ts";

/** Marks the file as ours ("Skn1"), so that another program's database is never written into. */
const applicationId = 0x53_6b_6e_31;
/** Another process that writes (a backup, `sqlite3`) is waited for this long. */
const busyTimeoutMs = 5_000;

const schema = `
  CREATE TABLE records (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires INTEGER) WITHOUT ROWID, STRICT;
  CREATE INDEX expiring ON records (expires) WHERE expires IS NOT NULL;
  PRAGMA application_id = ${applicationId};
  PRAGMA user_version = 1;
`;

export class SqliteDatabase {
  readonly #database: DatabaseSync;
  readonly #get: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  readonly #deleteRange: StatementSync;
  readonly #sweep: StatementSync;
  readonly #scanUp: StatementSync;
  readonly #scanDown: StatementSync;

  /** Opens the file or makes it (readable by its owner alone). @throws SkeinError `store_failed` */
  constructor(path: string) {
    try {
      closeSync(openSync(path, "a", 0o600));
      this.#database = new DatabaseSync(path, { timeout: busyTimeoutMs });
      // FULL: a commit is on the disk when it returns, in the write-ahead log, too.
      this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF");
      this.#prepareSchema(path);
    } catch (error) {
      throw failed(`cannot be opened: ${path}`, error);
    }
    const prepare = (sql: string): StatementSync => this.#database.prepare(sql);
    const alive = "(expires IS NULL OR expires > ?)";
    this.#get = prepare(`SELECT value FROM records WHERE key = ? AND ${alive}`);
    this.#put = prepare("INSERT OR REPLACE INTO records (key, value, expires) VALUES (?, ?, ?)");
    this.#delete = prepare("DELETE FROM records WHERE key = ?");
    this.#deleteRange = prepare("DELETE FROM records WHERE key >= ? AND key < ?");
    this.#sweep = prepare(
      "DELETE FROM records WHERE key IN (SELECT key FROM records WHERE expires <= ? ORDER BY expires LIMIT ?)",
    );
    const scan = `SELECT key, value FROM records WHERE key >= ? AND key < ? AND key <> ? AND ${alive} ORDER BY key`;
    this.#scanUp = prepare(`${scan} LIMIT ?`);
    this.#scanDown = prepare(`${scan} DESC LIMIT ?`);
  }

  #prepareSchema(path: string): void {
    const [id, version] = ["application_id", "user_version"].map(
      (pragma) => this.#database.prepare(`PRAGMA ${pragma}`).get()?.[pragma],
    );
    const { count } = this.#database.prepare("SELECT count(*) AS count FROM sqlite_schema").get() as {
      count: number;
    };
    if (count === 0) this.#database.exec(`BEGIN; ${schema} COMMIT`);
    else if (id !== applicationId) throw new Error(`${path} is a database of another program`);
    else if (version !== 1)
      throw new Error(`${path} was written by another version of Skein (format ${String(version)})`);
  }

  get(key: string, nowMs: number): Uint8Array | null {
    return (this.#get.get(key, nowMs) as { value: Uint8Array } | undefined)?.value ?? null;
  }

  scan({ prefix, after = "", limit, reverse = false }: Scan, nowMs: number): StoredRecord[] {
    const end = prefixEnd(prefix);
    const from = !reverse && after > prefix ? after : prefix;
    const to = reverse && after !== "" && after < end ? after : end;
    const found: StoredRecord[] = [];
    let bytes = 0;
    for (const row of (reverse ? this.#scanDown : this.#scanUp).iterate(from, to, after, nowMs, limit)) {
      const record = row as unknown as StoredRecord;
      bytes += record.value.length;
      if (found.length > 0 && bytes > scanBytesMax) break;
      found.push({ key: record.key, value: record.value });
    }
    return found;
  }

  /**
   * Writes several batches with one flush to the disk. Each is whole or absent; the answers say for each whether its
   * conditions held. @throws when nothing of all of them was written
   */
  commit(batches: readonly Batch[], nowMs: number): boolean[] {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      // Conditions are checked before a batch's first change: one that does not hold has nothing to undo.
      const held = batches.map(({ changes, conditions = [] }) => {
        const holds = conditions.every(({ key, value }) => {
          const live = this.get(key, nowMs);
          return live === null || value === null ? live === value : equalBytes(live, value);
        });
        if (holds) for (const change of changes) this.#apply(change);
        return holds;
      });
      this.#database.exec("COMMIT");
      return held;
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw failed("cannot write", error);
    }
  }

  sweep(limit: number, nowMs: number): number {
    return Number(this.#sweep.run(nowMs, limit).changes);
  }

  close(): void {
    this.#database.close();
  }

  #apply(change: Change): void {
    if (change.type === "put") this.#put.run(change.key, change.value, change.expiresAtMs);
    else if (change.type === "delete") this.#delete.run(change.key);
    else this.#deleteRange.run(change.prefix, prefixEnd(change.prefix));
  }
}

function failed(what: string, error: unknown): SkeinError {
  const why = error instanceof Error ? error.message : String(error);
  return new SkeinError("store_failed", `The store ${what} (${why}).`, {
    hint: "Look at the disk's free space and the file's permissions.",
    cause: error,
  });
}
