/** Style as a test: which folder may import which, purity of the lower rows, file and function length. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

/** Folders of a row import themselves and folders of earlier rows; see docs/ARCHITECTURE.md. */
const rows = [
  ["util"],
  ["protocol", "formats"],
  ["exact", "grammar", "tools"],
  ["network", "engine", "store", "receipt", "chain"],
  ["router", "ledger", "audit", "pipeline", "swarm"],
  ["gateway", "provider", "client"],
  ["sim", "cli"],
];
/** These run in browsers and in the simulator too: no Node modules, no reading of the real time. */
const pureFolders = [
  "util",
  "protocol",
  "formats",
  "exact",
  "grammar",
  "tools",
  "receipt",
  "router",
  "audit",
];
const fileLinesMax = 400;
const medianFileLinesMax = 150;
const functionLinesMax = 60;

const src = dirname(fileURLToPath(import.meta.url));
const files = readdirSync(src, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => ({ name: name.split(sep).join("/"), text: readFileSync(join(src, name), "utf8") }));
const products = files.filter(({ name }) => !/\.(test|suite)\.ts$/.test(name));

function importsOf(text: string): string[] {
  return [...text.matchAll(/(?:from|import|new URL)\s*\(?\s*"([^"]+)"/g)].map((match) => match[1]!);
}

function rowOf(folder: string): number {
  return rows.findIndex((row) => row.includes(folder));
}

test("every folder imports only itself and folders of earlier rows", () => {
  const wrong: string[] = [];
  for (const { name, text } of files) {
    const folder = name.split("/")[0]!;
    if (!name.includes("/")) continue;
    assert.notEqual(rowOf(folder), -1, `src/${folder} is in no row of the table`);
    for (const target of importsOf(text).filter((path) => path.startsWith("."))) {
      const to = relative(src, join(src, dirname(name), target)).split(sep)[0]!;
      if (to !== folder && rowOf(to) >= rowOf(folder)) wrong.push(`${name} imports ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("pure folders use no Node module, no wall clock and no unseeded chance", () => {
  const wrong = products
    .filter(({ name }) => pureFolders.includes(name.split("/")[0]!))
    .filter(({ name, text }) => {
      const ports = name === "util/clock.ts" || name === "util/random.ts";
      return (
        importsOf(text).some((path) => path.startsWith("node:")) ||
        (!ports && /\bDate\.now\(|\bMath\.random\(|\bperformance\.now\(/.test(text))
      );
    });
  assert.deepEqual(
    wrong.map(({ name }) => name),
    [],
  );
});

test("only the command line reads the environment", () => {
  const wrong = products.filter(
    ({ name, text }) => !name.startsWith("cli/") && /\bprocess\.env\b/.test(text),
  );
  assert.deepEqual(
    wrong.map(({ name }) => name),
    [],
  );
});

test("files and functions stay short", () => {
  const lengths = products.map(({ text }) => text.split("\n").length).sort((a, b) => a - b);
  const tooLong = products.filter(({ text }) => text.split("\n").length > fileLinesMax);
  assert.deepEqual(
    tooLong.map(({ name }) => name),
    [],
  );
  assert.ok(lengths[Math.floor(lengths.length / 2)]! <= medianFileLinesMax, "median file length");
  assert.deepEqual(
    products.flatMap(({ name, text }) => longFunctions(name, text)),
    [],
  );
});

/** Functions and methods longer than the limit, found by the formatter's indentation. */
function longFunctions(name: string, text: string): string[] {
  const lines = text.split("\n");
  const starts =
    /^(\s*)(?:export )?(?:async )?(?:function\*? |(?:static |get |set |async |\*|#)*[\w#]+\([^;]*\)?.*\{$)/;
  return lines.flatMap((line, i) => {
    const match = starts.exec(line);
    if (match === null || /^\s*(?:if|for|while|switch|return|const|let|export const)\b/.test(line)) return [];
    // A method of an object literal ends with a comma.
    const ends = [`${match[1]}}`, `${match[1]}},`];
    const end = lines.findIndex((other, j) => j > i && ends.includes(other));
    // Factories (`createX`) hold the functions of the thing they create; those are measured themselves.
    if (/function (?:create|open|accept)/.test(line)) return [];
    return end - i > functionLinesMax ? [`${name}:${i + 1} (${end - i} lines)`] : [];
  });
}
