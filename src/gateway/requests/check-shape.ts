import { choicesMax } from "../options.ts";
import type { z } from "zod";
import { SkeinError } from "../../util/errors.ts";
import { trustExpected } from "./parse-hints.ts";

/** What each parameter must be, in words that go on after "must be"; `*` stands for an index. */
const expectations: Record<string, string> = {
  model: "the name of a model, a non-empty text (GET /v1/models lists what is served)",
  messages: "a list of at least one message",
  "messages.*": "an object with 'role' and 'content'",
  "messages.*.role": "system, developer, user, assistant or tool",
  "messages.*.content": 'a text, or a list of parts like {"type": "text", "text": "…"}',
  "messages.*.name": "a text of at most 200 characters",
  "messages.*.tool_calls":
    'a list of at most 128 calls like {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}',
  "messages.*.tool_call_id": "the id of a call, a text of 1 to 200 characters",
  tools:
    'a list of at most 128 functions like {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}',
  "tools.*.function.name": "1 to 64 letters, digits, underscores and dashes",
  "tools.*.function.description": "a text",
  "tools.*.function.parameters": "a JSON schema of an object",
  "tools.*.function.strict": "true or false",
  tool_choice:
    '"auto", "none", "required", or a function like {"type": "function", "function": {"name": "f"}}',
  parallel_tool_calls: "true or false",
  reasoning_effort: '"none", or left out',
  prompt: `a text, a list of at most ${choicesMax} texts, a list of token ids, or a list of such lists`,
  echo: "true or false",
  best_of: "an integer from 1 to 20, at least n",
  suffix: "a text",
  stream: "true or false",
  stream_options: 'an object like {"include_usage": true}',
  "stream_options.include_usage": "true or false",
  temperature: "a number from 0 to 2",
  top_p: "a number from 0 to 1",
  top_k: "an integer from 0 to 1000000",
  min_p: "a number from 0 to 1",
  presence_penalty: "a number from -2 to 2",
  frequency_penalty: "a number from -2 to 2",
  logit_bias: "an object of at most 1024 token ids, each with a number from -100 to 100",
  seed: "an integer of at most 53 bits",
  n: `an integer from 1 to ${choicesMax}`,
  stop: "a text, or a list of at most 4 texts, each of 1 to 1000 characters",
  response_format:
    '{"type": "text"}, {"type": "json_object"}, {"type": "json_schema", "json_schema": {"name", "schema"}}, {"type": "regex", "pattern"} or {"type": "grammar", "grammar"}',
  "response_format.json_schema": 'an object like {"name": "answer", "schema": {"type": "object"}}',
  "response_format.json_schema.name": "1 to 64 letters, digits, underscores and dashes",
  "response_format.json_schema.schema": "a JSON schema",
  "response_format.json_schema.strict": "true or false",
  "response_format.pattern": "a regular expression",
  "response_format.grammar": "a grammar in XGrammar's EBNF with a rule 'root'",
  logprobs: "true or false; for /v1/completions an integer from 0 to 5",
  top_logprobs: "an integer from 0 to 20",
  service_tier: "a text of at most 100 characters",
  max_tokens: "a positive integer",
  max_completion_tokens: "a positive integer",
  skein: 'an object like {"allow_other_models": true}',
  "skein.allow_other_models": "true or false",
  "skein.private": "true or false",
  "skein.trust": trustExpected,
  "skein.region": "the name of a region, or its beginning, such as eu",
  "skein.max_price": 'USD like {"input": "0.10", "output": "0.40"} per million tokens, "second" per second',
  "skein.max_ttft_ms": "milliseconds, a number from 1 to 600000",
  "skein.allow": "a list of at most 100 provider ids",
  "skein.deny": "a list of at most 100 provider ids",
};

/**
 * Checks a body against a schema.
 *
 * @param words what parameters of this endpoint alone must be
 * @throws SkeinError `invalid_request`, which names the parameter, what it must be and what it is
 */
export function checkShape<T extends z.ZodType>(
  schema: T,
  body: unknown,
  words: Readonly<Record<string, string>> = {},
): z.infer<T> {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  if (issue.code === "unrecognized_keys") throw unknownField(issue.path.map(String), issue.keys[0]!, words);
  throw wrongParameter(issue.path.map(String), body, issue.message, words);
}

export function wrongParameter(
  path: readonly string[],
  body: unknown,
  reason: string,
  words: Readonly<Record<string, string>> = {},
): SkeinError {
  const expectationOf = (steps: readonly string[]): string | undefined =>
    words[steps.join(".")] ?? expectations[steps.join(".")];
  const known = path.map((step) => (/^\d+$/.test(step) ? "*" : step));
  // Deep inside a list of alternatives, the innermost known parameter says most.
  let depth = known.length;
  while (depth > 0 && expectationOf(known.slice(0, depth)) === undefined) depth -= 1;
  const expected = expectationOf(known.slice(0, depth));
  const param = path.slice(0, depth === 0 ? path.length : depth).join(".");
  const value = valueAt(body, path.slice(0, depth));
  const message =
    expected === undefined
      ? `'${param}' is wrong: ${reason}.`
      : value === undefined
        ? `'${param}' is missing: it must be ${expected}.`
        : `'${param}' must be ${expected}, but it is ${shown(value)}.`;
  return new SkeinError("invalid_request", message, { param });
}

/** Whoever mistypes a wish must not get an answer without it. */
function unknownField(
  path: readonly string[],
  name: string,
  words: Readonly<Record<string, string>>,
): SkeinError {
  const outer = path.join(".");
  const param = [...path, name.slice(0, 100)].join(".");
  const known = Object.keys(expectations)
    .filter((each) => each.startsWith(`${outer}.`))
    .map((each) => each.slice(outer.length + 1));
  const expected = words[outer] ?? expectations[outer];
  const hint = known.length > 0 ? `'${outer}' has: ${known.join(", ")}.` : `'${outer}' must be ${expected}.`;
  return new SkeinError("invalid_request", `There is no '${param}'.`, { param, hint });
}

function valueAt(body: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (value, step) => (typeof value === "object" && value !== null ? Object(value)[step] : undefined),
    body,
  );
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list with something else in it";
  if (typeof value === "object" && value !== null) return "an object";
  const text = JSON.stringify(value);
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}
