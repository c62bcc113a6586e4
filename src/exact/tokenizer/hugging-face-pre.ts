/** Which of the known pre-tokenizers the steps of a `tokenizer.json` are. */
import { unsupportedTokenizer } from "./data.ts";
import { field, listOf } from "./json.ts";
import { type PreTokenizer, preTokenizers } from "./pre-tokenizers.ts";

/** A letter before the whole thing for a regular expression, a name for the other steps. */
const known: readonly (readonly [PreTokenizer, readonly string[]])[] = [
  ["gpt-2", ["gpt2"]],
  ["smollm", ["digits", "gpt2"]],
  ["llama-bpe", [`/${llama3("{1,3}")}`]],
  ["qwen2", [`/${llama3("")}`]],
  ["tekken", [`/${tekken()}`]],
  [
    "deepseek-coder",
    ["/[\r\n]", String.raw`/\s?\p{L}+`, String.raw`/\s?\p{P}+`, "/[一-龥ࠀ-一가-\ud7ff]+", "digits"],
  ],
  ["deepseek-v3", [String.raw`/\p{N}{1,3}`, "/[一-龥\u3040-ゟ゠-ヿ]+", `/${deepseek3()}`]],
];

/** @throws SkeinError `unsupported_model` */
export function preTokenizerOf(tokenizer: unknown): PreTokenizer {
  const node = field(tokenizer, "pre_tokenizer");
  const nodes = field(node, "type") === "Sequence" ? listOf(field(node, "pretokenizers")) : [node];
  const steps = nodes.map(stepOf);
  const last = field(nodes.at(-1), "type");
  const found = known.find(([, wanted]) => JSON.stringify(wanted) === JSON.stringify(steps.flat()));
  if (found !== undefined && last === "ByteLevel") return found[0];
  throw unsupportedTokenizer(
    `the pre-tokenizer of this tokenizer.json (${nodes.map((one) => String(field(one, "type"))).join(", ")})`,
    preTokenizers.filter((pre) => known.some(([name]) => name === pre)),
  );
}

function stepOf(node: unknown): string[] {
  switch (field(node, "type")) {
    case "Split": {
      const isIsolating = field(node, "behavior") === "Isolated" && field(node, "invert") !== true;
      const expression = field(field(node, "pattern"), "Regex");
      return [isIsolating ? `/${String(expression)}` : "other"];
    }
    case "Digits":
      return [field(node, "individual_digits") === true ? "digits" : "other"];
    case "ByteLevel":
      if (field(node, "add_prefix_space") === true) return ["other"];
      return field(node, "use_regex") === false ? [] : ["gpt2"];
    default:
      return ["other"];
  }
}

function llama3(digits: string): string {
  return String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
}

function tekken(): string {
  const upper = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
  const lower = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
  const lead = String.raw`[^\r\n\p{L}\p{N}]?`;
  return String.raw`${lead}${upper}*${lower}+|${lead}${upper}+${lower}*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
}

/** Line ends stand in it as they are. */
function deepseek3(): string {
  const punctuated = String.raw`[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_` + "`{|}~][A-Za-z]+";
  return `${punctuated}|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+`;
}
