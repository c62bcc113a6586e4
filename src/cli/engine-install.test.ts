import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { lockWithGpu, withGpu } from "./engine-install.ts";
import { packageFolder } from "./package-info.ts";

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
