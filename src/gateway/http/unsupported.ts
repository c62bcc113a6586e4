import { SkeinError } from "../../util/errors.ts";

/**
 * Parameters that would change the answer but are not served yet: whether a value asks for nothing. Those
 * that change no answer (`user`, `metadata`, `prediction`, …) are taken; what is no parameter is refused elsewhere.
 */
type Neutral = (value: unknown) => boolean;

const empty: Neutral = (value) => Array.isArray(value) && value.length === 0;
const oneOf =
  (...values: unknown[]): Neutral =>
  (value) =>
    values.includes(value);
const never: Neutral = () => false;

const chatOnly: Record<string, Neutral> = {
  functions: empty,
  function_call: oneOf("none", "auto"),
  audio: never,
  modalities: (value) => Array.isArray(value) && value.every((item) => item === "text"),
  web_search_options: never,
  moderation: never,
  verbosity: oneOf("medium"),
  reasoning_effort: oneOf("none"),
};

/** Refuses by name whatever asks for something that is not served; nothing is ignored in silence. */
export function refuseUnsupported(endpoint: "chat" | "text", body: Record<string, unknown>): void {
  const rules = endpoint === "chat" ? chatOnly : {};
  for (const [param, neutral] of Object.entries(rules)) {
    const value = body[param];
    if (value === undefined || value === null || neutral(value)) continue;
    throw new SkeinError("unsupported_parameter", `'${param}' is not supported yet.`, {
      param,
      hint: "Leave it out.",
    });
  }
}
