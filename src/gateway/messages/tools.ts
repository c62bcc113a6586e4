/** Anthropic's tools and thinking as chat completions call them. */
import { z } from "zod";
import { SkeinError } from "../../util/errors.ts";

export const toolsShape = {
  tools: z
    .array(
      z.looseObject({ type: z.string().nullish(), name: z.string(), input_schema: z.unknown().optional() }),
    )
    .nullish(),
  tool_choice: z
    .looseObject({
      type: z.string(),
      name: z.string().nullish(),
      disable_parallel_tool_use: z.boolean().nullish(),
    })
    .nullish(),
  thinking: z
    .looseObject({ type: z.enum(["disabled", "enabled", "adaptive"]), budget_tokens: z.unknown().optional() })
    .nullish(),
};

/** @param body whose shape was checked @throws SkeinError `unsupported_parameter` */
export function chatTools(body: Readonly<Record<string, unknown>>): object {
  const { tools, tool_choice: choice, thinking } = body as z.infer<z.ZodObject<typeof toolsShape>>;
  if (thinking?.budget_tokens != null) {
    throw new SkeinError("unsupported_parameter", "'thinking.budget_tokens' is not supported yet.", {
      param: "thinking.budget_tokens",
      hint: "Models here think as long as they like, or not at all: leave 'thinking' out, or disable it.",
    });
  }
  return {
    tools: tools?.map(chatTool),
    tool_choice: choice == null ? null : chatChoice(choice),
    parallel_tool_calls: choice?.disable_parallel_tool_use === true ? false : null,
    reasoning_effort: thinking?.type === "disabled" ? "none" : null,
  };
}

type Tool = NonNullable<z.infer<(typeof toolsShape)["tools"]>>[number];
type Choice = NonNullable<z.infer<(typeof toolsShape)["tool_choice"]>>;

function chatTool({ type, name, description, input_schema: parameters, strict }: Tool): object {
  if (type != null && type !== "custom") return { type };
  return { type: "function", function: { name, description, parameters, strict } };
}

function chatChoice({ type, name }: Choice): unknown {
  if (type === "any") return "required";
  if (type === "tool" && name != null) return { type: "function", function: { name } };
  if (type === "auto" || type === "none") return type;
  throw new SkeinError(
    "invalid_request",
    `'tool_choice' must be of type auto, any, none, or tool with the 'name' of one.`,
    { param: "tool_choice" },
  );
}

/** What a chat request calls otherwise; null: it has nothing to do with tools. */
export function toolParam(param: string): string | null {
  if (!param.startsWith("tools.")) return null;
  return param.replace(".function.parameters", ".input_schema").replace(".function", "");
}
