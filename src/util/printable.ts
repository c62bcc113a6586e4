/**
 * Text of other parties for a terminal: a model's name, a reason or an answer must not move the cursor, set the
 * clipboard or show itself in another order. Removed are the control characters C0, DEL and C1 (each escape
 * sequence begins with one) and what overrides the direction of text.
 */

/** For text of several lines: newlines and tabs stay. */
export function printable(text: string): string {
  return text.replace(forbidden, "");
}

/** For names and reasons, which must not look like further lines or columns of output. */
export function printableLine(text: string): string {
  return printable(text.replace(/[\t\n\v\f\r\u0085\u2028\u2029]+/g, " "));
}

/** JSON for people and programs: the same value, with what a terminal may obey written as escapes. */
export function printableJson(value: unknown): string {
  return JSON.stringify(value, null, 2).replace(forbidden, escaped);
}

// C0 but for \t and \n, DEL and C1, then embeddings, overrides and isolates of direction.
// oxlint-disable-next-line no-control-regex
const forbidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
