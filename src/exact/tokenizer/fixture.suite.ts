/** What the tests of the tokenizer share: vocabularies, and hard texts. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { seededRandom } from "../../util/random.ts";
import type { TokenizerData } from "./data.ts";
import { type GgufMetadata, tokenizerFromGguf } from "./from-gguf.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
export const tinyModel = join(root, "models", "tiny.Q8_0.gguf");

/** Metadata of a GGUF file by key: type and bytes. */
export type Entries = Map<string, { readonly type: number; readonly bytes: Buffer }>;

const scalarBytes: Readonly<Record<number, number>> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
};

/** No more of GGUF than these tests need. */
export function readEntries(file: Buffer): Entries {
  const end = (type: number, at: number): number => {
    if (type === 8) return at + 8 + Number(file.readBigUInt64LE(at));
    if (type !== 9) return at + scalarBytes[type]!;
    const count = Number(file.readBigUInt64LE(at + 4));
    let after = at + 12;
    for (let i = 0; i < count; i++) after = end(file.readUInt32LE(at), after);
    return after;
  };
  const entries: Entries = new Map();
  const count = Number(file.readBigUInt64LE(16));
  let at = 24;
  for (let i = 0; i < count; i++) {
    const keyEnd = end(8, at);
    const key = file.toString("utf8", at + 8, keyEnd);
    const type = file.readUInt32LE(keyEnd);
    at = end(type, keyEnd + 4);
    entries.set(key, { type, bytes: file.subarray(keyEnd + 4, at) });
  }
  return entries;
}

/** A file without tensors. */
export function writeEntries(entries: Entries, changes: Readonly<Record<string, string | boolean>>): Buffer {
  const all = new Map(entries);
  for (const [key, value] of Object.entries(changes)) {
    all.set(
      key,
      typeof value === "string"
        ? { type: 8, bytes: text(value) }
        : { type: 7, bytes: Buffer.from([value ? 1 : 0]) },
    );
  }
  const header = Buffer.alloc(24);
  header.write("GGUF");
  header.writeUInt32LE(3, 4);
  header.writeBigUInt64LE(BigInt(all.size), 16);
  const parts = [...all].flatMap(([key, { type, bytes }]) => [
    text(key),
    Buffer.from([type, 0, 0, 0]),
    bytes,
  ]);
  const file = Buffer.concat([header, ...parts]);
  return Buffer.concat([file, Buffer.alloc((32 - (file.length % 32)) % 32)]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, bytes]);
}

export function metadataOf(entries: Entries): GgufMetadata {
  const read = (type: number, bytes: Buffer, at: number): [value: string | number | boolean, end: number] => {
    if (type === 8) {
      const end = at + 8 + Number(bytes.readBigUInt64LE(at));
      return [bytes.toString("utf8", at + 8, end), end];
    }
    const value = type === 6 ? bytes.readFloatLE(at) : type === 7 ? bytes[at] !== 0 : bytes.readInt32LE(at);
    return [value, at + scalarBytes[type]!];
  };
  return {
    scalar: (key) => {
      const entry = entries.get(key);
      return entry === undefined ? undefined : read(entry.type, entry.bytes, 0)[0];
    },
    array: (key) => {
      const bytes = entries.get(key)?.bytes;
      if (bytes === undefined) return [];
      const type = bytes.readUInt32LE(0);
      let at = 12;
      return Array.from({ length: Number(bytes.readBigUInt64LE(4)) }, () => {
        const [value, end] = read(type, bytes, at);
        at = end;
        return value;
      });
    },
  };
}

export function dataOf(file: Buffer): TokenizerData {
  return tokenizerFromGguf(metadataOf(readEntries(file)));
}

/** The demo model's file without its weights. */
export function tinyVocabulary(): Buffer {
  return writeEntries(readEntries(readFileSync(tinyModel)), {});
}

/** Texts that have broken tokenizers. */
export const hardTexts: readonly string[] = [
  "",
  " ",
  "  ",
  "\n",
  "\n\n\n",
  "\r\n\r\n",
  "\t\t\n \t \n",
  " \n leading and trailing \t ",
  "a  b   c    d     e      f       g",
  "I'm you're he'll we've they'd it's don't I'M YOU'RE HE'LL WE'VE THEY'D IT'S DON'T 'S'T'RE''LL 's",
  "’s ‘quoted’ “quoted” I’m",
  "'ſ 'K 'ı",
  "1 12 123 1234 12345 123456 1234567 12345678901234567890 3.14159 1,000,000 0x1F 1e-9 ½ ² Ⅷ ٣٤٥ १२३ 𝟘𝟙𝟚𝟛 一二三",
  "e\u0301 cafe\u0301 n\u0303 Z\u0351\u036B\u0343a\u0301\u0328l\u0347g\u0337o\u0315 \u0301",
  "क्षत्रिय நிமிடம் กำลัง ភាសាខ្មែរ မြန်မာ",
  "שלום עולם, مرحبا بالعالم \u202Ertl\u202C \u200F",
  "中文字符，日本語テキスト。한국어 텍스트！中a文1字",
  "👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ❤️ 🦙.cpp 😀😃😄",
  "𝐀𝐁𝐂 𐐀𐐨 𞤀𞤢 𠀀𠀁 𒀀",
  "\uD800 \uDC00 a\uDBFFb \uDFFF\uD800",
  "\uFEFFbom\uFEFF nul\0nul \x01\x02\x1B[0m\x7F\x85\xA0nbsp\u2003em\u2028ls\u2029ps\u200Bzw\u3000ideographic",
  "\uE000private\uF8FF \uFFFE\uFFFF \u{10FFFF} \u0378unassigned \u{323B0}",
  "function f(a, b) {\n  return a.b?.[c] ?? `x${d}`; // note\n}\n\n\tif (x != y && z || !w) { i++; }",
  'def f(x: int) -> str:\n    return f"{x!r}"\n\n\nclass A(B):\n\tpass\r\n',
  "<html><body class='x'>&amp;</body></html> #include <stdio.h> $HOME ~/a/b_c-d.e /usr/bin//x /* */",
  "https://example.org/a?b=c&d=%20#e user@example.org C:\\dir\\file.txt",
  "!!!??...,,,;;;:::---___===+++***&&&^^^%%%$$$###@@@~~~```|||\\\\\\///",
  "snake_case camelCase PascalCase SCREAMING_CASE kebab-case mIxEdCaSe éÉàÀ ÄÖÜß Straße İstanbul",
  "<|endoftext|><|im_start|>system\n<|im_end|> <s> </s> <unk> <pad> <0x0A> [INST] [/INST] <<SYS>>",
  "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|> <|end_of_text|",
  "<｜begin▁of▁sentence｜>a<｜end▁of▁sentence｜> ▁▁a ▁ b▁",
  "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|> <tool_call> </tool_call> <think>",
  "ĠĊ Ġhello Ċ ð Ł",
  "a".repeat(5000),
  " ".repeat(5000),
  "ab ".repeat(2000),
  "\n".repeat(500),
  "=".repeat(777),
  "中".repeat(777),
  "😀".repeat(333),
  `${"Donaudampfschifffahrt".repeat(40)} ${"7".repeat(400)}`,
];

const alphabets: readonly (readonly string[])[] = [
  Array.from("abcdefghijklmnopqrstuvwxyz"),
  Array.from("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
  ["the", "ing", " of", " and", "Hello", " World", "er", "'s", "'LL", "'re", "'", "’"],
  Array.from("0123456789½²٣"),
  [" ", " ", "  ", "\t", "\n", "\r", "\r\n", "\u00A0", "\u3000", "\u2028", "\u0085", "\v", "\f"],
  Array.from("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
  Array.from("äöüßéèñçøåÆŒĲǅſKΑβγДжшاببשלकखগ中文字日本語한국어ㄱㄅ々、。「」！？…—–・"),
  ["\u0301", "\u0308", "\u093F", "\u0E34", "\u200D", "\uFE0F", "\u{1F3FD}", "\u20E3"],
  ["😀", "👩‍🚀", "🇩🇪", "❤️", "🦙", "𝐀", "𐐀", "𠀀", "𝟘", "\u{E0061}"],
  ["\uD83D", "\uDE00", "\0", "\uFEFF", "\uFFFD", "\uFFFF", "▁", "Ġ", "Ċ", "\x1B", "\x7F", "€", "±", "\u00AD"],
];

/** The same texts for the same seed, some of them with whole tokens of the vocabulary. */
export function randomTexts(seed: number, count: number, tokens: readonly string[]): string[] {
  const random = seededRandom(seed);
  const below = (max: number): number => Math.floor(random.next() * max);
  const anyCharacter = (): string => String.fromCodePoint(below(random.next() < 0.5 ? 0x3000 : 0x110000));
  const special = tokens.filter((token) => /^[<[].*[>\]]$/.test(token) || token.length > 12);
  return Array.from({ length: count }, () => {
    const favourite = below(alphabets.length);
    return Array.from({ length: 1 + below(40) }, () => {
      const kind = below(24);
      if (kind === 0) return anyCharacter();
      if (kind === 1) return special[below(special.length)] ?? "";
      if (kind === 2) return tokens[below(tokens.length)]!.slice(0, 20);
      const alphabet = alphabets[kind < 12 ? favourite : kind % alphabets.length]!;
      const some = alphabet[below(alphabet.length)]!;
      return random.next() < 0.1 ? some.repeat(1 + below(9)) : some;
    }).join("");
  });
}
