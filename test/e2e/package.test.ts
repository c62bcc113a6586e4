/** The published package: `npm pack`, installed into an empty folder, works there. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { publint } from "publint";
import { killAll, skeinAt, stop } from "./processes.ts";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "skein-pack-"));
const npm = ["--no-fund", "--no-audit", "--prefer-offline", "--loglevel=error"];

after(async () => {
  await killAll();
  rmSync(folder, { recursive: true, force: true });
});

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

  await runsNetwork(join(folder, "node_modules", "skein", "bin", "skein.mjs"), join(folder, "home"));

  const { stdout } = await run("du", ["-sm", join(folder, "node_modules")]);
  const megabytes = Number.parseInt(stdout, 10);
  console.log(`installed size without engine: ${megabytes} MB`);
  assert.ok(megabytes < 320, `${megabytes} MB installed`);
});

/** The first thing that people do with it. */
async function runsNetwork(entry: string, home: string): Promise<void> {
  const engine = join(root, "engines", "llama", "node_modules");
  if (existsSync(engine)) {
    // The same engine that would be installed; bringing it here again would take longer than all the rest.
    mkdirSync(join(home, "engines", "llama"), { recursive: true });
    symlinkSync(engine, join(home, "engines", "llama", "node_modules"), "junction");
  }
  const network = skeinAt(entry, home, "up", "--port", "0", "--providers", "1");
  const [, url] = await network.printed(/(http:\/\/127\.0\.0\.1:\d+)\/v1/);
  await network.printed(/Ctrl-C/);
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "tiny",
      messages: [{ role: "user", content: "3 + 83 = ?" }],
      temperature: 0,
    }),
  });
  assert.match(await response.text(), /86/);
  await stop(network);
  assert.equal(network.child.exitCode, process.platform === "win32" ? null : 0);
}
