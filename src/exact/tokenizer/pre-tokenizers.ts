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
const cjk: Step = { set: "一-龥ࠀ-一가-\ud7ff", expression: expression("x+") };

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

const deepseekLetters =
  "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃";

const steps = {
  "gpt-2": [gpt2],
  smollm: [digit, gpt2],
  "llama-bpe": [llama3("{1,3}")],
  qwen2: [llama3("")],
  tekken: [tekken()],
  "deepseek-llm": [
    newline,
    { set: deepseekLetters, expression: expression(String.raw`\s?x+`) },
    { set: "!-/:-~！-／：-～‘-‟　-。", expression: expression(String.raw`\s?x+`) },
    expression(String.raw`\s+$`),
    cjk,
    expression(`[${N}]+`),
  ],
  "deepseek-coder": [newline, expression(`\\s?[${L}]+`), expression(`\\s?[${P}]+`), cjk, digit],
  "deepseek-v3": [
    expression(`[${N}]{1,3}`),
    { set: "一-龥\u3040-ゟ゠-ヿ", expression: expression("x+") },
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
