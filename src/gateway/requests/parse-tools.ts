/** OpenAI's function tools: what may be called, and what must be. */
import { z } from "zod";
import { type CallForm, toolCallGrammar } from "../../grammar/tool-calls.ts";
import type { SchemaObject } from "../../grammar/schema-keywords.ts";
import {
  type ChatMessage,
  type Constraint,
  grammarCharsMax,
  type Tool,
  type ToolCall,
  toolCallsMax,
  toolParametersCharsMax,
  toolsMax,
} from "../../protocol/generate.ts";
import type { ModelOffer } from "../../protocol/offer.ts";
import { SkeinError } from "../../util/errors.ts";

const functionName = z.string().regex(/^[\w-]{1,64}$/);
const callId = z.string().min(1).max(200);
const namedFunction = z.looseObject({
  type: z.literal("function"),
  function: z.looseObject({ name: functionName }),
});
const choiceSchema = z.union([
  z.enum(["auto", "none", "required"]),
  namedFunction,
  z.looseObject({
    type: z.literal("allowed_tools"),
    allowed_tools: z.looseObject({
      mode: z.enum(["auto", "required"]),
      tools: z.array(namedFunction).min(1).max(toolsMax),
    }),
  }),
]);

export const toolsShape = {
  tools: z
    .array(
      z.looseObject({
        type: z.string(),
        function: z
          .looseObject({
            name: functionName,
            description: z.string().max(toolParametersCharsMax).nullish(),
            parameters: z
              .custom<SchemaObject>((value) => typeof value === "object" && !Array.isArray(value))
              .nullish(),
            strict: z.boolean().nullish(),
          })
          .nullish(),
      }),
    )
    .max(toolsMax)
    .nullish(),
  tool_choice: choiceSchema.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  reasoning_effort: z.string().max(100).nullish(),
};

export const toolMessageShape = {
  tool_calls: z
    .array(
      z.looseObject({
        id: callId,
        type: z.string().nullish(),
        function: z.looseObject({ name: functionName, arguments: z.string() }).nullish(),
      }),
    )
    .max(toolCallsMax)
    .nullish(),
  tool_call_id: callId.nullish(),
};

type Body = z.infer<z.ZodObject<typeof toolsShape>>;

/** The functions of a request, and how they may be called. */
export interface ToolUse {
  /** What the model is told of. */
  readonly tools: readonly Tool[];
  /** What it may call. */
  readonly names: ReadonlySet<string>;
  readonly isParallel: boolean;
  /** What an answer must look like from a model of this offer; null: any answer. */
  constraintFor(offer: Pick<ModelOffer, "toolFormat" | "thoughtFormat" | "features">): Constraint | null;
}

/** Null: nothing can be called. @throws SkeinError `invalid_request`, `unsupported_parameter` naming what is wrong */
export function toolUseOf(body: Body): ToolUse | null {
  const canThink = body.reasoning_effort !== "none";
  const given = (body.tools ?? []).map((tool, index) => functionOf(tool, index));
  const names = given.map(({ tool }) => tool.name);
  const twice = names.findIndex((name, i) => names.indexOf(name) < i);
  if (twice >= 0) {
    throw new SkeinError("invalid_request", `The function '${names[twice]}' comes twice.`, {
      param: `tools.${twice}.function.name`,
    });
  }
  const { isRequired, allowed } = choiceOf(body.tool_choice ?? "auto", names);
  if (given.length === 0 || body.tool_choice === "none") return null;
  const isParallel = body.parallel_tool_calls ?? true;
  const functions = given.filter(({ tool }) => allowed === null || allowed.has(tool.name));
  const form = usableForm({
    functions: functions.map(({ tool, schema, isStrict }) => ({
      name: tool.name,
      parameters: schema,
      isStrict,
    })),
    isRequired,
    isParallel,
  });
  const [only] = allowed === null ? [] : [...allowed];
  const named =
    only === undefined || allowed?.size !== 1 ? null : { type: "function", function: { name: only } };
  const wish = isRequired ? (named ?? "required") : "auto";
  const toolChoice = JSON.stringify({ tool_choice: wish, parallel_tool_calls: isParallel });
  const known = new Map<string, Constraint | null>();
  return {
    tools: given.map(({ tool }) => tool),
    names: new Set(functions.map(({ tool }) => tool.name)),
    isParallel,
    constraintFor({ toolFormat = "generic", thoughtFormat, features }) {
      const thoughts = canThink ? (thoughtFormat ?? null) : null;
      const key = `${toolFormat} ${thoughts ?? ""} ${features.includes("grammar")}`;
      let constraint = known.get(key);
      if (constraint === undefined) {
        const grammar = features.includes("grammar") ? compiled(form, toolFormat, thoughts) : anything;
        constraint = grammar === null ? null : { grammar, responseFormat: null, toolChoice };
        known.set(key, constraint);
      }
      return constraint;
    },
  };
}

/**
 * Schemas are wrong or right whatever the model's format: whoever sent them hears of it before anybody is asked. Where
 * none is strict, and all together are too much for a grammar, the arguments are any objects.
 */
function usableForm(form: CallForm): CallForm {
  try {
    compiled({ ...form, isRequired: true }, "hermes", null);
    return form;
  } catch (error) {
    if (form.functions.some(({ isStrict }) => isStrict)) throw error;
    const functions = form.functions.map((each) => ({ ...each, parameters: { type: "object" } }));
    return { ...form, functions };
  }
}

/** For engines that take no grammar, and have nothing to keep to but the choice. */
const anything = "root ::= [\\u0000-\\u007f]*";

function compiled(...[form, format, thoughts]: Parameters<typeof toolCallGrammar>): string | null {
  try {
    const grammar = toolCallGrammar(form, format, thoughts);
    if (grammar === null || grammar.length <= grammarCharsMax) return grammar;
    throw new SkeinError(
      "invalid_request",
      `The grammar of all functions is longer than ${grammarCharsMax}.`,
    );
  } catch (error) {
    if (!(error instanceof SkeinError)) throw error;
    const { code, message, hint } = error;
    throw new SkeinError(code, message, { param: "tools", ...(hint === undefined ? {} : { hint }) });
  }
}

interface GivenFunction {
  readonly tool: Tool;
  readonly schema: SchemaObject;
  readonly isStrict: boolean;
}

function functionOf(
  { type, function: given }: NonNullable<Body["tools"]>[number],
  index: number,
): GivenFunction {
  if (type !== "function") {
    throw new SkeinError("unsupported_parameter", `Tools of type '${type.slice(0, 50)}' are not supported.`, {
      param: `tools.${index}.type`,
      hint: "Functions are.",
    });
  }
  if (given == null) {
    throw new SkeinError("invalid_request", `'tools.${index}.function' is missing.`, {
      param: `tools.${index}.function`,
    });
  }
  const { name, description, strict } = given;
  const param = `tools.${index}.function.parameters`;
  // Without a schema it has no parameters.
  const schema = given.parameters ?? { type: "object", properties: {} };
  if (schema["type"] !== undefined && schema["type"] !== "object") {
    throw new SkeinError("invalid_request", `'${param}' must be a JSON schema of type object.`, { param });
  }
  const parameters = jsonOf(schema);
  if (parameters === null || parameters.length > toolParametersCharsMax) {
    throw new SkeinError(
      "invalid_request",
      `'${param}' is longer than ${toolParametersCharsMax} characters.`,
      {
        param,
      },
    );
  }
  const isBare = given.parameters == null;
  return {
    tool: { name, ...(description == null ? {} : { description }), parameters },
    schema: { type: "object", ...schema, ...(isBare ? { additionalProperties: false } : {}) },
    isStrict: strict === true,
  };
}

/** Null: nested deeper than the stack. */
export function jsonOf(value: object): string | null {
  try {
    return JSON.stringify(value);
  } catch {
    return null;
  }
}

/** `allowed` null: all functions. */
function choiceOf(
  choice: NonNullable<Body["tool_choice"]>,
  names: readonly string[],
): { readonly isRequired: boolean; readonly allowed: ReadonlySet<string> | null } {
  if (choice === "auto" || choice === "none") return { isRequired: false, allowed: null };
  if (names.length === 0) {
    throw new SkeinError("invalid_request", "'tool_choice' asks for a call, but there are no 'tools'.", {
      param: "tool_choice",
    });
  }
  if (choice === "required") return { isRequired: true, allowed: null };
  const isList = choice.type === "allowed_tools";
  const wanted = isList ? choice.allowed_tools.tools : [choice];
  const allowed = new Set(wanted.map((each) => each.function.name));
  const unknown = [...allowed].find((name) => !names.includes(name));
  if (unknown !== undefined) {
    throw new SkeinError("invalid_request", `'tool_choice' names '${unknown}', which is not in 'tools'.`, {
      param: "tool_choice",
    });
  }
  const isRequired = !isList || choice.allowed_tools.mode === "required";
  return { isRequired, allowed };
}

type GivenMessage = z.infer<z.ZodObject<typeof toolMessageShape>> & { readonly role: string };

/** What a message says of calls. @throws SkeinError */
export function toolFieldsOf(
  { role, tool_calls, tool_call_id }: GivenMessage,
  index: number,
): Pick<ChatMessage, "toolCalls" | "toolCallId"> {
  const path = `messages.${index}`;
  if (role === "tool") {
    if (tool_call_id != null) return { toolCallId: tool_call_id };
    throw new SkeinError(
      "invalid_request",
      `'${path}.tool_call_id' is missing: a tool's message answers a call.`,
      {
        param: `${path}.tool_call_id`,
      },
    );
  }
  const calls = tool_calls ?? [];
  if (calls.length === 0) return {};
  if (role !== "assistant") {
    throw new SkeinError("invalid_request", "Only an assistant's messages can have 'tool_calls'.", {
      param: `${path}.tool_calls`,
    });
  }
  const toolCalls = calls.map(({ id, type, function: called }, i): ToolCall => {
    if ((type ?? "function") === "function" && called != null) {
      return { id, name: called.name, arguments: called.arguments };
    }
    throw new SkeinError("unsupported_parameter", "Only calls of functions are supported.", {
      param: `${path}.tool_calls.${i}`,
    });
  });
  return { toolCalls };
}

/** Each tool's message must answer a call before it. @throws SkeinError `invalid_request` */
export function checkToolMessages(messages: readonly ChatMessage[]): void {
  const ids = new Set<string>();
  for (const [i, { toolCalls = [], toolCallId }] of messages.entries()) {
    for (const { id } of toolCalls) ids.add(id);
    if (toolCallId === undefined || ids.has(toolCallId)) continue;
    throw new SkeinError(
      "invalid_request",
      "A message of role 'tool' must answer a call in 'tool_calls' before it.",
      {
        param: `messages.${i}.tool_call_id`,
      },
    );
  }
}
