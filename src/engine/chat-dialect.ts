/**
 * What a model knows of functions and thoughts, found out from its chat template: by rendering a small conversation and
 * looking at what comes out, for templates say the same in many ways.
 */
import type { Feature, ThoughtFormat, ToolFormat } from "../protocol/offer.ts";
import type { ChatTemplate } from "./chat-template.ts";
import { compileTemplate } from "./jinja.ts";

export interface ChatDialect {
  readonly toolFormat: ToolFormat;
  /** Whether the template itself tells the model of functions; else they are told in words. */
  readonly knowsTools: boolean;
  /** Whether the template takes system messages. */
  readonly knowsSystem: boolean;
  readonly thoughtFormat: ThoughtFormat | null;
  /** Whether the model can be asked to answer without thoughts. */
  readonly canSkipThoughts: boolean;
}

/** As Qwen's and DeepSeek's templates call it. */
export const withoutThoughts = { enable_thinking: false, thinking: false } as const;

const known = new WeakMap<ChatTemplate, ChatDialect>();

export function chatDialectOf(template: ChatTemplate): ChatDialect {
  const before = known.get(template);
  if (before !== undefined) return before;
  const dialect = probe(template);
  known.set(template, dialect);
  return dialect;
}

/** What an offer says of it; a model without a template answers no chats. */
export function offeredDialect(template: ChatTemplate | null): {
  readonly features: readonly Feature[];
  readonly toolFormat?: ToolFormat;
  readonly thoughtFormat?: ThoughtFormat;
} {
  if (template === null) return { features: [] };
  const { toolFormat, thoughtFormat, canSkipThoughts } = chatDialectOf(template);
  return {
    features: ["tools", ...(canSkipThoughts ? (["no_thinking"] as const) : [])],
    ...(toolFormat === "generic" ? {} : { toolFormat }),
    ...(thoughtFormat === null ? {} : { thoughtFormat }),
  };
}

const name = "probe_function";
const user = { role: "user", content: "probe" };
const tool = {
  type: "function",
  function: {
    name,
    description: "probe",
    parameters: { type: "object", properties: { probe_key: { type: "string", description: "probe" } } },
  },
};
/** Nine letters and digits: Mistral's templates refuse others. */
const id = "probecall";
const call = {
  role: "assistant",
  content: "",
  tool_calls: [{ id, type: "function", function: { name, arguments: { probe_key: "probe_value" } } }],
};
const answer = { role: "tool", name, tool_call_id: id, content: "probe_result" };

/** How a call of the probe looks in each format. */
const callsOf: readonly (readonly [ToolFormat, RegExp])[] = [
  ["hermes", /<tool_call>\s*\{\s*"name":\s*"probe_function"/],
  ["mistral_args", /\[TOOL_CALLS\]\s*probe_function/],
  ["mistral", /\[TOOL_CALLS\]\s*\[?\s*\{/],
  ["llama3", /"parameters":\s*\{\s*"probe_key":\s*"probe_value"/],
];

/** Of templates that nothing can be rendered with. */
const plainest: ChatDialect = {
  toolFormat: "generic",
  knowsTools: false,
  knowsSystem: true,
  thoughtFormat: null,
  canSkipThoughts: true,
};

function probe(template: ChatTemplate): ChatDialect {
  const { source, bosToken, eosToken } = template;
  const fixed = { bos_token: bosToken, eos_token: eosToken, add_generation_prompt: true, documents: null };
  const render = (values: object): string => {
    try {
      return compileTemplate(source)({ ...fixed, tools: null, messages: [user], ...values }, 0);
    } catch {
      return "";
    }
  };
  const plain = render({});
  if (plain === "") return plainest;
  const tools = [tool];
  const called = render({ tools, messages: [user, call, answer] });
  const format = callsOf.find(([, pattern]) => pattern.test(called))?.[0];
  const isNative =
    format !== undefined && render({ tools }).includes(name) && called.includes("probe_result");
  const thoughtFormat = /<think>\s*$/.test(plain) ? "opened" : source.includes("</think>") ? "tags" : null;
  const silent = render(withoutThoughts);
  return {
    toolFormat: isNative ? format : "generic",
    knowsTools: isNative,
    knowsSystem: render({ messages: [{ role: "system", content: "probe_system" }, user] }).includes(
      "probe_system",
    ),
    thoughtFormat,
    canSkipThoughts: thoughtFormat === null || silent !== plain || /<\/think>\s*$/.test(silent),
  };
}
