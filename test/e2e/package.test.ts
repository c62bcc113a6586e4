/** The published package: `npm pack`, installed into an empty folder, works there. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { publint } from "publint";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "skein-pack-"));
const npm = ["--no-fund", "--no-audit", "--prefer-offline", "--loglevel=error"];

after(() => rmSync(folder, { recursive: true, force: true }));

test("npm pack's result installs into an empty folder and runs there", async () => {
  const packed = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: root });
  const [{ filename, files }] = JSON.parse(packed.stdout.slice(packed.stdout.indexOf("["))) as [
    { filename: string; files: { path: string }[] },
  ];
  const paths = files.map((file) => file.path);
  assert.ok(paths.includes("dist/cli/main.js") && paths.includes("models/tiny.Q8_0.gguf"));
  assert.ok(!paths.some((path) => /\.test\.|^src\/|^test\//.test(path)), "no sources or tests inside");

  const { messages } = await publint({
    pack: { tarball: Uint8Array.from(readFileSync(join(folder, filename))).buffer },
    strict: true,
  });
  assert.deepEqual(messages, []);

  writeFileSync(join(folder, "package.json"), '{"name": "empty", "private": true}');
  await run("npm", ["install", ...npm, join(folder, filename)], { cwd: folder });
  const env = { ...process.env, SKEIN_HOME: join(folder, "home"), NO_COLOR: "1" };
  const skein = join(folder, "node_modules", ".bin", "skein");
  assert.match((await run(skein, ["--help"], { env })).stdout, /provide/);
  assert.match((await run(skein, ["--version"], { env })).stdout, /^\d+\.\d+\.\d+/);
  const config = await run(skein, ["config", "--json"], { env });
  assert.equal(typeof JSON.parse(config.stdout), "object");

  const { stdout } = await run("du", ["-sm", join(folder, "node_modules")]);
  const megabytes = Number.parseInt(stdout, 10);
  console.log(`installed size without engine: ${megabytes} MB`);
  assert.ok(megabytes < 320, `${megabytes} MB installed`);
});
