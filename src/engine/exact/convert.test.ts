import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import {
  copyFile,
  link,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { code } from "../asking.suite.ts";
import { convertFile, prepareModel } from "./convert.ts";
import { tinyGguf, tinySkein } from "./fixture.suite.ts";

const options = { signal: new AbortController().signal };

let root: string;
let folder: string;
before(async () => {
  root = await mkdtemp(join(tmpdir(), "skein-convert-"));
});
beforeEach(async () => {
  folder = await mkdtemp(join(root, "home-"));
});
after(() => rm(root, { recursive: true }));

test("a model is converted once, into a file that only its owner reads", async () => {
  const cache = join(folder, "exact");
  const seen: number[] = [];
  const onProgress = (done: number, total: number): void => void seen.push(done / total);
  const first = await prepareModel(tinyGguf, cache, { ...options, onProgress });
  assert.equal(first.isCached, true);
  assert.ok(seen.length > 10 && seen.at(-1) === 1);
  assert.deepEqual(await readdir(cache), [first.path.slice(cache.length + 1)]);
  assert.equal((await stat(first.path)).mode & 0o777, 0o600);
  assert.equal((await stat(cache)).mode & 0o777, 0o700);
  assert.deepEqual(await readFile(first.path), await readFile(await tinySkein()));
  seen.length = 0;
  assert.deepEqual(await prepareModel(tinyGguf, cache, { ...options, onProgress }), first);
  assert.equal(seen.length, 0);
  // A converted model is taken as it is.
  assert.deepEqual(await prepareModel(first.path, cache, options), { path: first.path, isCached: false });
});

test("with four bits it is another file and another model, and loses more", async () => {
  const eight = await prepareModel(tinyGguf, folder, options);
  const four = await prepareModel(tinyGguf, folder, { ...options, quantization: "int4-group32" });
  assert.notEqual(four.path, eight.path);
  assert.ok(2 * (await stat(four.path)).size < 1.3 * (await stat(eight.path)).size);
  const target = join(folder, "x.skein");
  const usual = await convertFile(tinyGguf, target, options);
  const rounded = await convertFile(tinyGguf, target, { ...options, quantization: "int4-group32" });
  assert.notEqual(rounded.modelId, usual.modelId);
  assert.ok(usual.weightError > 0.001 && usual.weightError < 0.02, `${usual.weightError}`);
  assert.ok(rounded.weightError > 0.05 && rounded.weightError < 0.09, `${rounded.weightError}`);
});

test("a file that changed is converted anew", async () => {
  const model = join(folder, "model.gguf");
  await copyFile(tinyGguf, model);
  const first = await prepareModel(model, folder, options);
  await utimes(model, 1, 1);
  assert.notEqual((await prepareModel(model, folder, options)).path, first.path);
});

test("several conversions at once do not disturb each other", async () => {
  const prepared = await Promise.all([1, 2, 3].map(() => prepareModel(tinyGguf, folder, options)));
  assert.equal(new Set(prepared.map(({ path }) => path)).size, 1);
  assert.deepEqual(await readdir(folder), [prepared[0]!.path.slice(folder.length + 1)]);
  assert.deepEqual(await readFile(prepared[0]!.path), await readFile(await tinySkein()));
});

test("a conversion that is cancelled or fails leaves nothing behind, and the old file as it was", async () => {
  const target = join(folder, "model.skein");
  await writeFile(target, "old");
  const abort = new AbortController();
  const onProgress = (done: number, total: number): void => {
    if (2 * done > total) abort.abort();
  };
  await assert.rejects(
    convertFile(tinyGguf, target, { signal: abort.signal, onProgress }),
    code("cancelled"),
  );
  assert.deepEqual(await readdir(folder), ["model.skein"]);
  assert.equal(await readFile(target, "utf8"), "old");
  const missing = join(folder, "no", "model.skein");
  await assert.rejects(convertFile(tinyGguf, missing, options), code("invalid_config"));
});

test("what an earlier process left unfinished is removed after a while", async () => {
  const [old, fresh] = [1, 2].map((i) => `${i}.skein.${randomUUID()}.part`) as [string, string];
  for (const name of [old, fresh]) await writeFile(join(folder, name), "");
  await utimes(join(folder, old), 1, 1);
  const { path } = await prepareModel(tinyGguf, folder, options);
  assert.deepEqual((await readdir(folder)).toSorted(), [fresh, path.slice(folder.length + 1)]);
});

test("beside a target only what was left of the same target is removed", async () => {
  const mine = ["a.skein.b.part", `a.skein.${randomUUID()}.part.gz`, `b.skein.${randomUUID()}.part`];
  for (const name of [...mine, `a.skein.${randomUUID()}.part`]) {
    await writeFile(join(folder, name), "");
    await utimes(join(folder, name), 1, 1);
  }
  await convertFile(tinyGguf, join(folder, "a.skein"), options);
  assert.deepEqual((await readdir(folder)).toSorted(), [...mine, "a.skein"].toSorted());
});

test("a model is never replaced by what is made of it, by whatever name", async () => {
  const model = join(folder, "model.gguf");
  await copyFile(tinyGguf, model);
  await link(model, join(folder, "hard"));
  await symlink(model, join(folder, "soft"));
  const names = (await readdir(folder)).toSorted();
  for (const name of ["model.gguf", "hard", "soft"]) {
    await assert.rejects(convertFile(model, join(folder, name), options), code("invalid_config"), name);
    await assert.rejects(convertFile(join(folder, name), model, options), code("invalid_config"), name);
  }
  assert.deepEqual((await readdir(folder)).toSorted(), names);
  assert.deepEqual(await readFile(model), await readFile(tinyGguf));
});

test("a folder is no target, which is said before anything is converted", async () => {
  const onProgress = (): void => assert.fail("it is converted");
  const converting = convertFile(tinyGguf, folder, { ...options, onProgress });
  await assert.rejects(converting, code("invalid_config"));
});

test("what is no model, or one that the arithmetic cannot do, is refused with a reason", async () => {
  const whole = await readFile(tinyGguf);
  const renamed = (name: string): Buffer =>
    Buffer.from(whole.toString("latin1").replaceAll("llama", name), "latin1");
  const cases = [
    ["truncated.gguf", whole.subarray(0, whole.length - 100_000), "invalid_model_file"],
    ["header.gguf", whole.subarray(0, 5000), "invalid_model_file"],
    ["text.gguf", Buffer.from("this is not a model"), "invalid_model_file"],
    ["empty.gguf", Buffer.alloc(0), "invalid_model_file"],
    ["architecture.gguf", renamed("gemma"), "unsupported_model"],
  ] as const;
  for (const [name, content, expected] of cases) {
    await writeFile(join(folder, name), content);
    await assert.rejects(
      prepareModel(join(folder, name), join(folder, "cache"), options),
      code(expected),
      name,
    );
  }
  for (const path of [folder, join(folder, "missing.gguf")]) {
    await assert.rejects(
      prepareModel(path, join(folder, "cache"), options),
      code("invalid_model_file"),
      path,
    );
  }
  assert.deepEqual(await readdir(join(folder, "cache")).catch(() => []), []);
  await assert.rejects(
    convertFile(await tinySkein(), join(folder, "again.skein"), options),
    code("invalid_model_file"),
  );
});
