import { SkeinError } from "../util/errors.ts";

const askForAnother = "Give the path of a complete model file; download it again if it was cut off.";

/** `why` completes a sentence that begins with the file's name. */
export function invalidModelFile(
  name: string,
  why: string,
  hint = askForAnother,
  cause?: unknown,
): SkeinError {
  return new SkeinError("invalid_model_file", `${name} ${why}.`, { hint, cause });
}

/** The file is sound, but the exact engine does not compute such models. */
export function unsupportedModel(name: string, why: string, hint: string): SkeinError {
  return new SkeinError("unsupported_model", `${name} ${why}.`, { hint });
}

/** Names from files in messages: short, and without control characters. */
export function shown(text: string): string {
  return JSON.stringify(text.length <= 80 ? text : `${text.slice(0, 80)}…`);
}

/** Some of many names from a file. */
export function shownList(names: readonly string[]): string {
  const countMax = 5;
  const some = names.slice(0, countMax).map(shown).join(", ");
  return names.length <= countMax ? some : `${some} and ${names.length - countMax} more`;
}
