import assert from "node:assert/strict";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import { openFileSource } from "./file-source.ts";

const folder = mkdtempSync(join(tmpdir(), "skein-file-source-"));
after(() => rmSync(folder, { recursive: true }));
const never = new AbortController().signal;

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

function says(message: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof SkeinError && error.code === "invalid_model_file" && message.test(error.message);
}

test("any range inside a file is read, and none outside", async () => {
  const path = write("file", "0123456789");
  const source = await openFileSource(path);
  assert.deepEqual([source.name, source.size], [path, 10]);
  const read = async (start: number, length: number): Promise<string> =>
    Buffer.from(await source.read(start, length, never)).toString();
  assert.equal(await read(0, 10), "0123456789");
  assert.equal(await read(3, 2), "34");
  assert.equal(await read(10, 0), "");
  for (const [start, length] of [
    [8, 3],
    [-1, 1],
    [0, 2 ** 53],
    [0.5, 1],
  ] as const) {
    await assert.rejects(read(start, length), says(/has no bytes .*it has 10 bytes/));
  }
  const isCancelled = (error: unknown): boolean => error instanceof SkeinError && error.code === "cancelled";
  await assert.rejects(source.read(0, 1, AbortSignal.abort()), isCancelled);
  await source.close();
  await assert.rejects(source.read(0, 1, never), SkeinError);
});

test("a file that becomes shorter, longer or younger while it is open is noticed", async () => {
  const changes: [string, (path: string) => void, RegExp][] = [
    ["shorter", (path) => truncateSync(path, 5), /became shorter/],
    ["longer", (path) => appendFileSync(path, "x"), /changed while/],
    ["younger", (path) => utimesSync(path, 1, 1), /changed while/],
  ];
  for (const [name, change, message] of changes) {
    const path = write(name, "0123456789");
    const source = await openFileSource(path);
    await source.read(0, 10, never);
    change(path);
    await assert.rejects(source.read(0, 10, never), says(message), name);
    await source.close();
  }
});

test("what is no file is refused with a reason", async () => {
  await assert.rejects(openFileSource(join(folder, "missing")), says(/missing does not exist/));
  mkdirSync(join(folder, "directory"));
  await assert.rejects(openFileSource(join(folder, "directory")), says(/is a directory/));
  if (process.platform !== "win32")
    await assert.rejects(openFileSource("/dev/null"), says(/not a regular file/));
});
