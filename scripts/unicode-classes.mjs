// Makes src/exact/tokenizer/unicode-classes.ts from llama.cpp's src/unicode-data.cpp (argument: its path).
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const source = readFileSync(process.argv[2], "utf8");
const codePoints = 0x110000;
const lineLengthMax = 96;
/** Bits of llama.cpp's `unicode_cpt_flags`, and the letters that stand for them. */
const categories = { 2: "N", 4: "L", 16: "M", 32: "P", 64: "S" };

const classes = Array.from({ length: codePoints }, () => "O");
const ranges = [...section("unicode_ranges_flags").matchAll(/\{0x([0-9A-F]+), 0x([0-9A-F]+)\}/g)].map(
  (match) => [Number.parseInt(match[1], 16), Number.parseInt(match[2], 16)],
);
for (const [i, [start, flags]] of ranges.entries()) {
  classes.fill(categories[flags & 0xff] ?? "O", start, ranges[i + 1]?.[0] ?? codePoints);
}
for (const match of section("unicode_set_whitespace").matchAll(/0x([0-9A-F]+)/g)) {
  classes[Number.parseInt(match[1], 16)] = "W";
}

const runs = [];
for (let start = 0, at = 1; at <= codePoints; at++) {
  if (at < codePoints && classes[at] === classes[start]) continue;
  runs.push(classes[start] + (at - start === 1 ? "" : (at - start).toString(36)));
  start = at;
}
const lines = [""];
for (const run of runs) {
  if (lines.at(-1).length + run.length > lineLengthMax) lines.push("");
  lines[lines.length - 1] += run;
}
const target = join(
  dirname(dirname(fileURLToPath(import.meta.url))),
  "src/exact/tokenizer/unicode-classes.ts",
);
writeFileSync(
  target,
  `/**
 * Made by scripts/unicode-classes.mjs from the tables of llama.cpp (unicode-data.cpp, MIT). Not \`\\p{L}\` of the
 * JavaScript engine at hand: its version of Unicode would decide what the model reads, and machines would differ.
 *
 * Runs of code points from 0 on: a letter for the class, then the length in base 36 unless it is 1. Classes:
 * Letter, Number, Mark, Punctuation, Symbol, Whitespace, Other.
 */
export const unicodeClassRuns: string = [
${lines.map((line) => `  "${line}",`).join("\n")}
].join("");
`,
);

function section(name) {
  const start = source.indexOf(`${name} = {`);
  return source.slice(start, source.indexOf("};", start));
}
