import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { SkeinError } from "../util/errors.ts";
import { homeFolder, loadOrCreateIdentity, loadOrCreateSecret, readConfigFile } from "./home.ts";

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), "skein-home-"));
after(() => rmSync(folder, { recursive: true }));

const mode = (file: string): number => statSync(file).mode & 0o777;
const isInvalid = (error: unknown): boolean => error instanceof SkeinError && error.code === "invalid_config";

test("an identity is made once, kept, and readable by its owner only", () => {
  const file = join(folder, "sub", "provider.key");
  const seed = loadOrCreateIdentity(file);
  assert.equal(seed.length, 32);
  assert.deepEqual(loadOrCreateIdentity(file), seed);
  if (process.platform !== "win32") assert.equal(mode(file), 0o600);
});

test("a damaged identity is not silently replaced", () => {
  const file = join(folder, "damaged.key");
  writeFileSync(file, "not a key");
  assert.throws(() => loadOrCreateIdentity(file), isInvalid);
  assert.equal(readFileSync(file, "utf8"), "not a key");
  writeFileSync(file, "");
  assert.throws(() => loadOrCreateIdentity(file), isInvalid);
});

test("secrets are long, kept, and private even where the file was there before", () => {
  const file = join(folder, "join.token");
  writeFileSync(file, "");
  chmodSync(file, 0o644);
  const made = loadOrCreateSecret(file, "skein-join-");
  assert.match(made.secret, /^skein-join-[0-9a-f]{48}$/);
  assert.deepEqual([made.isNew, loadOrCreateSecret(file, "x").secret], [true, made.secret]);
  if (process.platform !== "win32") assert.equal(mode(file), 0o600);
});

test("a missing configuration is empty; a broken one is an error that names the file", () => {
  assert.deepEqual(readConfigFile(join(folder, "missing.json")), {});
  for (const [name, text] of [
    ["broken.json", "{"],
    ["list.json", "[]"],
  ] as const) {
    const file = join(folder, name);
    writeFileSync(file, text);
    assert.throws(
      () => readConfigFile(file),
      (error) => isInvalid(error) && String(error).includes(name),
    );
  }
});

test("SKEIN_HOME decides, else the platform", () => {
  assert.equal(homeFolder({ SKEIN_HOME: "/x" }), "/x");
  if (process.platform === "linux") assert.equal(homeFolder({ XDG_CONFIG_HOME: "/c" }), join("/c", "skein"));
});

test("processes that make a secret at the same time all get the same one", async () => {
  const file = join(folder, "raced", "api.key");
  const home = new URL("./home.ts", import.meta.url).href;
  const script = `import { loadOrCreateSecret } from ${JSON.stringify(home)};
    process.stdout.write(JSON.stringify(loadOrCreateSecret(${JSON.stringify(file)}, "sk-")));`;
  const args = ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", script];
  const runs = await Promise.all(Array.from({ length: 6 }, () => run(process.execPath, args)));
  const made = runs.map(({ stdout }) => JSON.parse(stdout) as { secret: string; isNew: boolean });
  assert.equal(new Set(made.map(({ secret }) => secret)).size, 1);
  assert.equal(made.filter(({ isNew }) => isNew).length, 1);
  assert.equal(readFileSync(file, "utf8").trim(), made[0]!.secret);
});
