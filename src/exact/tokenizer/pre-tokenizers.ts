/**
 * How byte-level vocabularies cut text into words before merging: the expressions of llama.cpp (llama-vocab.cpp,
 * MIT), one step after the other on the segments that the step before has left.
 *
 * They are applied to a text in which one character stands for each code point: ASCII for itself, the letters below
 * for classes of Unicode, a vertical tab for other whitespace. So every repetition is over single characters, which
 * JavaScript engines run in a loop; with `\p{L}` they keep a stack, and fail after some million characters.
 */
/** Stand-ins of code points that are not ASCII. Bytes that windows-1252 maps to themselves. */
export const classBytes = { O: 0xd0, N: 0xd1, L: 0xd2, P: 0xd3, M: 0xd4, S: 0xd5, W: 0x0b } as const;

/** An expression on the classes, or on a text with `x` for the members of a set, `\v` for whitespace, else `-`. */
export type Step = RegExp | { readonly set: string; readonly expression: RegExp };

const L = String.raw`A-Za-z\xd2`;
const N = String.raw`0-9\xd1`;
const P = String.raw`!-#%-*,\-.\/:;?@[\\\]_{}\xd3`;
const M = String.raw`\xd4`;
const S = String.raw`$+<=>^\`|~\xd5`;

const spaces = String.raw`\s+(?!\S)|\s+`;
const gpt2 = expression(`'(?:[stmd]|re|ve|ll)| ?[${L}]+| ?[${N}]+| ?[^\\s${L}${N}]+|${spaces}`);
const digit = expression(`[${N}]`);
const newline = expression(String.raw`[\r\n]`);
const cjk: Step = { set: "\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff", expression: expression("x+") };

/** Llama 3's and its kin's: they differ in how many digits make a word. */
function llama3(digits: string): RegExp {
  const contractions = "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])";
  const words = `[^\\r\\n${L}${N}]?[${L}]+`;
  return expression(
    `${contractions}|${words}|[${N}]${digits}| ?[^\\s${L}${N}]+[\\r\\n]*|\\s*[\\r\\n]+|${spaces}`,
  );
}

/** As llama.cpp has it, letters beyond ASCII count as both upper and lower case. */
function tekken(): RegExp {
  const lead = `[^\\r\\n${L}${N}]?`;
  const upper = String.raw`[A-Z\xd2]`;
  const lower = String.raw`[a-z\xd2]`;
  const words = `${lead}${upper}*${lower}+|${lead}${upper}+${lower}*`;
  return expression(`${words}|[${N}]| ?[^\\s${L}${N}]+[\\r\\n/]*|\\s*[\\r\\n]+|${spaces}`);
}

function deepseek3(): RegExp {
  const punctuated = "[!-/:-@[-`{-~][A-Za-z]+";
  const words = `[^\\r\\n${L}${P}${S}]?[${L}${M}]+`;
  return expression(`${punctuated}|${words}| ?[${P}${S}]+[\\r\\n]*|\\s*[\\r\\n]+|${spaces}`);
}

/** Cased letters; escaped, for some look like others (the Kelvin sign). */
const deepseekLetters: string = [
  "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af",
  "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5",
  "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba",
  "\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45",
  "\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe",
  "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc",
  "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139",
  "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3",
  "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06",
  "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}",
  "\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}",
].join("");

const steps = {
  "gpt-2": [gpt2],
  smollm: [digit, gpt2],
  "llama-bpe": [llama3("{1,3}")],
  qwen2: [llama3("")],
  tekken: [tekken()],
  "deepseek-llm": [
    newline,
    { set: deepseekLetters, expression: expression(String.raw`\s?x+`) },
    {
      set: "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002",
      expression: expression(String.raw`\s?x+`),
    },
    expression(String.raw`\s+$`),
    cjk,
    expression(`[${N}]+`),
  ],
  "deepseek-coder": [newline, expression(`\\s?[${L}]+`), expression(`\\s?[${P}]+`), cjk, digit],
  "deepseek-v3": [
    expression(`[${N}]{1,3}`),
    { set: "\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff", expression: expression("x+") },
    deepseek3(),
  ],
  default: [expression(`[${P}$+<=>^~|]+`), gpt2, expression(`[${N}]+`), expression("[0-9]{3}")],
} as const satisfies Record<string, readonly Step[]>;

export type PreTokenizer = keyof typeof steps;

export const preTokenizers = Object.keys(steps) as readonly PreTokenizer[];

export function stepsOf(pre: PreTokenizer): readonly Step[] {
  return steps[pre];
}

function expression(source: string): RegExp {
  return new RegExp(source, "g");
}
