import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, test } from "node:test";
import { utf8 } from "../util/bytes.ts";
import { systemClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { openSqliteStore } from "./sqlite.ts";
import { storeSuite } from "./store.suite.ts";

const folder = mkdtempSync(join(tmpdir(), "skein-store-"));
after(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const nextPath = (): string => join(folder, `${files++}.db`);

storeSuite("sqlite", (clock) => openSqliteStore(nextPath(), clock));

const storeFailed =
  (text: RegExp) =>
  (error: unknown): boolean =>
    error instanceof SkeinError && error.code === "store_failed" && text.test(error.message);

test("records are there after a restart, in a file of the owner's alone", async () => {
  const path = nextPath();
  const store = await openSqliteStore(path, systemClock);
  await store.commit({ changes: [{ type: "put", key: "a", value: utf8("kept"), expiresAtMs: null }] });
  await store.close();
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const again = await openSqliteStore(path, systemClock);
  assert.equal(Buffer.from((await again.get("a"))!).toString(), "kept");
  await again.close();
});

test("a file that is not ours is left alone", async () => {
  const foreign = nextPath();
  const database = new DatabaseSync(foreign);
  database.exec("CREATE TABLE t (x)");
  database.close();
  await assert.rejects(openSqliteStore(foreign, systemClock), storeFailed(/another program/));
  const text = nextPath();
  writeFileSync(
    text,
    "no database, but longer than the hundred bytes that a header of a database has".repeat(3),
  );
  await assert.rejects(openSqliteStore(text, systemClock), storeFailed(/cannot be opened/));
  await assert.rejects(
    openSqliteStore(join(folder, "missing", "x.db"), systemClock),
    storeFailed(/cannot be opened/),
  );
  const later = nextPath();
  const ours = await openSqliteStore(later, systemClock);
  await ours.close();
  const changed = new DatabaseSync(later);
  changed.exec("PRAGMA user_version = 2");
  changed.close();
  await assert.rejects(openSqliteStore(later, systemClock), storeFailed(/format 2/));
});

/** Writes pairs of records as fast as it can and prints the number of each pair once it is said to be safe. */
const writer = `
  const { openSqliteStore } = await import(${JSON.stringify(new URL("./sqlite.ts", import.meta.url).href)});
  const { systemClock } = await import(${JSON.stringify(new URL("../util/clock.ts", import.meta.url).href)});
  const store = await openSqliteStore(process.argv[1], systemClock);
  const put = (key) => ({ type: "put", key, value: new Uint8Array(100), expiresAtMs: null });
  let next = Number(process.argv[2]);
  const one = async () => {
    for (;;) {
      const key = String(next++).padStart(8, "0");
      await store.commit({ changes: [put("a" + key), put("b" + key)] });
      process.stdout.write(key + "\\n");
    }
  };
  for (let i = 0; i < 16; i++) one();
`;

test("kill -9 loses nothing that was said to be safe, and halves no batch", { timeout: 60_000 }, async () => {
  const path = nextPath();
  const safe: string[] = [];
  for (let round = 0; round < 4; round++) {
    const child = spawn(
      process.execPath,
      ["--no-warnings", "--input-type=module", "-e", writer, path, `${round}000000`],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (output.length > 200 * 9 * (round + 1)) child.kill("SIGKILL");
    });
    await new Promise((resolve) => child.once("close", resolve));
    safe.push(...output.split("\n").filter((line) => line.length === 8));
  }
  const store = await openSqliteStore(path, systemClock);
  const keys = async (prefix: string): Promise<string[]> =>
    (await store.scan({ prefix, limit: 10_000 })).map(({ key }) => key.slice(1));
  const [first, second] = [await keys("a"), await keys("b")];
  await store.close();
  assert.ok(safe.length > 800, `${safe.length} batches`);
  assert.ok(first.join() === second.join(), "a batch was written in part");
  const kept = new Set(first);
  assert.deepEqual(safe.filter((key) => !kept.has(key)).slice(0, 5), []);
});
