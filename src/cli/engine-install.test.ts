import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { withGpu } from "./engine-install.ts";
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
