import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { isErrorCode, SkeinError } from "../util/errors.ts";
import {
  engineStateOf,
  findLlamaEngine,
  type GpuBackend,
  installLlamaEngine,
  lockWithGpu,
  missingEngine,
  userEngineFolder,
  withGpu,
} from "./engine-install.ts";
import { runNpm, type RunNpm } from "./npm.ts";
import { packageFolder } from "./package-info.ts";

const temporary = mkdtempSync(join(tmpdir(), "skein-engine-"));
after(() => rmSync(temporary, { recursive: true }));
let homes = 0;
const newHome = (): string => join(temporary, String(homes++));

const manifest = readFileSync(join(packageFolder, "engines", "llama", "package.json"), "utf8");

function replaced(text: string): string[] {
  const parsed = JSON.parse(text) as { overrides: Record<string, Record<string, string>> };
  return Object.keys(parsed.overrides["node-llama-cpp"]!);
}

test("without a GPU every GPU backend is replaced by an empty package", () => {
  assert.equal(withGpu(manifest, null), manifest);
  assert.ok(replaced(manifest).some((name) => name.includes("cuda")));
  assert.ok(replaced(manifest).some((name) => name.includes("vulkan")));
});

test("a wanted backend is installed, the other one is not", () => {
  assert.ok(!replaced(withGpu(manifest, "cuda")).some((name) => name.includes("cuda")));
  assert.ok(replaced(withGpu(manifest, "cuda")).some((name) => name.includes("vulkan")));
  assert.ok(!replaced(withGpu(manifest, "vulkan")).some((name) => name.includes("vulkan")));
});

test("the lockfile forgets the empty stand-ins of a wanted backend, and nothing else", () => {
  const lock = readFileSync(join(packageFolder, "engines", "llama", "package-lock.json"), "utf8");
  const keysOf = (text: string): string[] =>
    Object.keys((JSON.parse(text) as { packages: Record<string, unknown> }).packages);
  const kept = keysOf(lockWithGpu(lock, "vulkan"));
  const gone = keysOf(lock).filter((key) => !kept.includes(key));
  assert.deepEqual(gone.sort(), [
    "node_modules/@node-llama-cpp/linux-x64-vulkan",
    "node_modules/@node-llama-cpp/win-x64-vulkan",
  ]);
  assert.equal(lockWithGpu(lock, null), lock);
});

test("the lockfile pins the version that the manifest names, with hashes", () => {
  const lock = JSON.parse(
    readFileSync(join(packageFolder, "engines", "llama", "package-lock.json"), "utf8"),
  ) as {
    packages: Record<string, { version?: string; integrity?: string }>;
  };
  const wanted = (JSON.parse(manifest) as { dependencies: Record<string, string> }).dependencies[
    "node-llama-cpp"
  ];
  const locked = lock.packages["node_modules/node-llama-cpp"];
  assert.equal(locked?.version, wanted);
  assert.match(locked?.integrity ?? "", /^sha512-/);
});

/** Leaves what npm would leave, as far as it gets. */
function fakeNpm(upTo: "nothing" | "half" | "all"): RunNpm {
  return async (folder) => {
    const module = join(folder, "node_modules", "node-llama-cpp");
    if (upTo !== "nothing") mkdirSync(module, { recursive: true });
    if (upTo !== "all") throw new SkeinError("engine_unavailable", "npm failed");
    writeFileSync(join(module, "package.json"), "{}");
  };
}

async function install(home: string, npm: RunNpm, gpu: GpuBackend | null = null): Promise<boolean> {
  const signal = AbortSignal.timeout(60_000);
  const options = { gpu, bundled: false, signal, onOutput: () => undefined, runNpm: npm };
  return (await installLlamaEngine(home, options)).installed;
}

const failedWith = (code: string) => (error: unknown) =>
  isErrorCode(code) && error instanceof SkeinError && error.code === code;

test("an installation is whole or is not there", async () => {
  const home = newHome();
  const folder = userEngineFolder(home);
  await assert.rejects(install(home, fakeNpm("half")), failedWith("engine_unavailable"));
  assert.equal(engineStateOf(folder).state, "none");
  assert.deepEqual(readdirSync(folder), [], "nothing is left of a failed installation");

  assert.equal(await install(home, fakeNpm("all")), true);
  assert.deepEqual(readdirSync(folder), ["node_modules"]);
  assert.equal(findLlamaEngine(home)?.folder, folder);
  assert.equal(await install(home, fakeNpm("nothing")), false, "what is there is not installed again");

  await assert.rejects(install(home, fakeNpm("half"), "cuda"), failedWith("engine_unavailable"));
  assert.equal(engineStateOf(folder).state, "ready", "a failure leaves what was there");
});

test("what is half there or of another version is no engine", async () => {
  const home = newHome();
  const modules = join(userEngineFolder(home), "node_modules");
  mkdirSync(join(modules, "node-llama-cpp"), { recursive: true });
  writeFileSync(join(modules, "node-llama-cpp", "package.json"), "{}");
  assert.equal(engineStateOf(userEngineFolder(home)).state, "broken");
  assert.match(missingEngine(home).text, /half installed/);

  assert.equal(await install(home, fakeNpm("all"), "cuda"), true);
  const stampFile = join(modules, ".skein-engine.json");
  const stamp = JSON.parse(readFileSync(stampFile, "utf8")) as object;
  for (const other of [{ lock: "older" }, { platform: "plan9-x64" }]) {
    writeFileSync(stampFile, JSON.stringify({ ...stamp, ...other }));
    assert.deepEqual(engineStateOf(userEngineFolder(home)), { state: "outdated", gpu: "cuda" });
    assert.equal(findLlamaEngine(home), null, "a GPU does not silently become a CPU");
    assert.match(missingEngine(home).text, /another version.*--gpu cuda/s);
  }
  assert.equal(await install(home, fakeNpm("all"), "cuda"), true);
  assert.equal(findLlamaEngine(home)?.folder, userEngineFolder(home));
});

test("what killed installations left is removed, what runs is not", async () => {
  const home = newHome();
  const folder = userEngineFolder(home);
  // No process has such a number.
  mkdirSync(join(folder, ".install-99999999", "node_modules"), { recursive: true });
  mkdirSync(join(folder, `.install-${process.ppid}`));
  await install(home, fakeNpm("all"));
  assert.deepEqual(readdirSync(folder).sort(), [`.install-${process.ppid}`, "node_modules"]);
});

test(
  "npm and what it started end when the installation is stopped",
  { skip: process.platform === "win32", timeout: 20_000 },
  async () => {
    const bin = newHome();
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, "npm"), "#!/bin/sh\necho started\nsleep 600\n", { mode: 0o755 });
    const { PATH: path } = process.env;
    process.env["PATH"] = `${bin}:${path}`;
    try {
      const stopping = new AbortController();
      const onOutput = (): void => stopping.abort();
      // It ends when its output does, and `sleep` holds that open for as long as it lives.
      await assert.rejects(
        runNpm(bin, ["ci"], { signal: stopping.signal, onOutput }),
        failedWith("cancelled"),
      );
    } finally {
      process.env["PATH"] = path;
    }
  },
);
