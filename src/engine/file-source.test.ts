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
import { byteSourceSuite } from "../formats/byte-source.suite.ts";
import { type FileSource, openFileSource } from "./file-source.ts";

const folder = mkdtempSync(join(tmpdir(), "skein-file-source-"));
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

const opened: FileSource[] = [];
after(async () => {
  for (const source of opened) await source.close();
  rmSync(folder, { recursive: true });
});

byteSourceSuite("file", async (name, bytes) => {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  const source = await openFileSource(path);
  opened.push(source);
  return source;
});

test("a closed file is not read", async () => {
  const source = await openFileSource(write("closed", "0123456789"));
  await source.close();
  await assert.rejects(source.read(0, 1, never), says(/cannot be read/));
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

test("a read of more than 2 GiB is possible, and ends when it is cancelled", async () => {
  const path = write("large", "");
  truncateSync(path, 2 ** 31 + 1);
  const source = await openFileSource(path);
  const abort = new AbortController();
  const reading = source.read(0, source.size, abort.signal);
  setImmediate(() => abort.abort());
  await assert.rejects(reading, (error) => error instanceof SkeinError && error.code === "cancelled");
  await source.close();
});

test("what is no file is refused with a reason", async () => {
  await assert.rejects(openFileSource(join(folder, "missing")), says(/missing does not exist/));
  mkdirSync(join(folder, "directory"));
  await assert.rejects(openFileSource(join(folder, "directory")), says(/is a directory/));
  if (process.platform !== "win32")
    await assert.rejects(openFileSource("/dev/null"), says(/not a regular file/));
});
