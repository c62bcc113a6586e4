// Compiles src/exact/wasm/assembly to src/exact/wasm/kernels.wasm.ts; with --check only says whether that is up to date.
// The compiler's version is pinned, so that everybody gets the same bytes.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, "src", "exact", "wasm");
const target = join(folder, "kernels.wasm.ts");

const text = render(await compile());
if (!process.argv.includes("--check")) writeFileSync(target, text);
else if (readFileSync(target, "utf8") !== text) {
  console.error("kernels.wasm.ts is not what its sources give. Run: node scripts/build-kernels.mjs");
  process.exitCode = 1;
}

async function compile() {
  let binary = null;
  let messages = "";
  const options = [
    "--runtime",
    "stub",
    "--importMemory",
    "--initialMemory",
    "16",
    "--maximumMemory",
    "65536",
  ];
  const { error } = await asc.main(
    [
      join(folder, "assembly", "index.ts"),
      "-o",
      "kernels.wasm",
      ...options,
      "--enable",
      "simd",
      "-O3",
      "--noAssert",
      "--disableWarning",
    ],
    {
      stderr: { write: (message) => void (messages += message) },
      writeFile: (name, contents) => {
        if (name.endsWith(".wasm")) binary = contents;
      },
    },
  );
  if (error !== null || binary === null) throw new Error(`The kernels do not compile:\n${messages}`);
  return binary;
}

function render(binary) {
  const lines = Buffer.from(binary)
    .toString("base64")
    .match(/.{1,100}/g);
  const body = lines.map((line) => `  "${line}"`).join(" +\n");
  return [
    "/** Compiled from assembly/ by scripts/build-kernels.mjs; do not edit. */",
    "export const kernelsBase64: string =",
    `${body};`,
    "",
  ].join("\n");
}
