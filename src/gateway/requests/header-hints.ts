/** The fields of the body's `skein` object as headers, for clients whose library sends no other fields. */
import { isDeepStrictEqual } from "node:util";
import { SkeinError } from "../../util/errors.ts";
import { skeinSchema, trustExpected } from "./parse-hints.ts";

interface HeaderHint {
  /** Its place in the `skein` object. */
  readonly path: readonly [string] | readonly [string, string];
  /** In words that go on after "must be". */
  readonly expected: string;
  /** Undefined: it is not what is expected. */
  readonly read: (text: string) => unknown;
}

const asText = (text: string): unknown => text;
const asNumber = (text: string): unknown => (/^\d+(\.\d+)?$/.test(text) ? Number(text) : undefined);
const asBoolean = (text: string): unknown =>
  ({ true: true, "1": true, false: false, "0": false })[text.toLowerCase()];
const asList = (text: string): unknown => text.split(",").map((item) => item.trim());

const usd = "US dollars such as 0.40";
const ids = "at most 100 provider ids with commas between them";
const boolean = "true or false";

const headerHints: Readonly<Record<string, HeaderHint>> = {
  "x-skein-region": {
    path: ["region"],
    expected: "the name of a region, or its beginning, such as eu",
    read: asText,
  },
  "x-skein-max-price-input": {
    path: ["max_price", "input"],
    expected: `${usd} per million tokens`,
    read: asText,
  },
  "x-skein-max-price-output": {
    path: ["max_price", "output"],
    expected: `${usd} per million tokens`,
    read: asText,
  },
  "x-skein-max-price-second": { path: ["max_price", "second"], expected: `${usd} per second`, read: asText },
  "x-skein-max-ttft-ms": {
    path: ["max_ttft_ms"],
    expected: "milliseconds, a number from 1 to 600000",
    read: asNumber,
  },
  "x-skein-providers-allow": { path: ["allow"], expected: ids, read: asList },
  "x-skein-providers-deny": { path: ["deny"], expected: ids, read: asList },
  "x-skein-trust": {
    path: ["trust"],
    expected: trustExpected,
    read: asText,
  },
  "x-skein-private": { path: ["private"], expected: boolean, read: asBoolean },
  "x-skein-allow-other-models": { path: ["allow_other_models"], expected: boolean, read: asBoolean },
};
/** Headers with other meanings. */
const otherHeaders: readonly string[] = ["x-skein-resume"];

/**
 * The body with what headers ask for in its `skein` object.
 *
 * @throws SkeinError `invalid_request` that names the header: it is unknown, wrong, or says something else than the body
 */
export function withHeaderHints(body: Record<string, unknown>, headers: Headers): Record<string, unknown> {
  const given = [...headers].filter(([name]) => name.startsWith("x-skein-") && !otherHeaders.includes(name));
  if (given.length === 0) return body;
  let skein = body["skein"] ?? {};
  // Whatever else stands there is refused by the body's own check.
  if (typeof skein !== "object" || Array.isArray(skein)) return body;
  for (const [name, text] of given) {
    const hint = headerHints[name];
    // A word that was mistyped must not send a private prompt anywhere.
    if (hint === undefined) throw unknownHeader(name);
    skein = withHint(skein as Record<string, unknown>, name, hint, text.trim());
  }
  return { ...body, skein };
}

function withHint(
  skein: Record<string, unknown>,
  name: string,
  { path: [field, part], expected, read }: HeaderHint,
  text: string,
): Record<string, unknown> {
  const value = read(text);
  const isValid = skeinSchema.safeParse({ [field]: part === undefined ? value : { [part]: value } }).success;
  if (value === undefined || !isValid) {
    throw new SkeinError(
      "invalid_request",
      `The header '${name}' must be ${expected}, but it is ${shown(text)}.`,
      {
        param: name,
      },
    );
  }
  const outer = part === undefined ? skein : (skein[field] ?? {});
  if (typeof outer !== "object" || outer === null) return skein;
  const known = (outer as Record<string, unknown>)[part ?? field];
  if (known !== undefined && known !== null && !isSame(known, value)) {
    const inBody = ["skein", field, ...(part === undefined ? [] : [part])].join(".");
    throw new SkeinError("invalid_request", `The header '${name}' says something else than '${inBody}'.`, {
      param: name,
      hint: "Say it once.",
    });
  }
  return { ...skein, [field]: part === undefined ? value : { ...outer, [part]: value } };
}

/** A price may be a text or a number. */
function isSame(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(a, b) || (typeof a === "number" && a === Number(b));
}

function unknownHeader(name: string): SkeinError {
  const known = Object.keys(headerHints).join(", ");
  return new SkeinError("invalid_request", `There is no header '${name.slice(0, 100)}'.`, {
    param: name.slice(0, 100),
    hint: `There are: ${known}.`,
  });
}

function shown(text: string): string {
  return text === "" ? "empty" : JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}
