/**
 * Forms with files (multipart/form-data, RFC 7578) while they come: a file is never whole in memory. (What Node and
 * Hono bring reads a form to its end before it hands anything out.)
 */
import { SkeinError } from "../../util/errors.ts";

/** Of one part: name, file name, type. */
const headersBytesMax = 8 * 1024;
/** RFC 2046. */
const boundaryLengthMax = 70;
const partsMax = 32;

export type FormEvent =
  | { readonly type: "part"; readonly name: string; readonly filename: string | null }
  /** Bytes of the part before. */
  | { readonly type: "data"; readonly bytes: Uint8Array };

/** @throws SkeinError `unsupported_media_type`, `invalid_request` */
export function boundaryOf(contentType: string | null): string {
  const isForm = /^multipart\/form-data\b/i.test(contentType ?? "");
  const [, quoted, plain] = /;\s*boundary=(?:"([^"]+)"|([^\s;"]+))/i.exec(contentType ?? "") ?? [];
  const boundary = quoted ?? plain ?? "";
  if (!isForm) {
    throw new SkeinError("unsupported_media_type", "The body must be a form: multipart/form-data.", {
      hint: 'Send it as with curl -F file=@input.jsonl -F purpose="batch".',
    });
  }
  if (boundary !== "" && boundary.length <= boundaryLengthMax) return boundary;
  throw malformed("its content-type names no boundary");
}

/** @throws SkeinError `invalid_request` when it is no such form, or ends too early */
export async function* readForm(
  body: AsyncIterable<Uint8Array>,
  boundary: string,
): AsyncGenerator<FormEvent, void> {
  const delimiter = Buffer.from(`\r\n--${boundary}`, "latin1");
  // The first delimiter may stand at the very beginning.
  let held: Buffer = Buffer.from("\r\n");
  let state: "preamble" | "delimiter" | "headers" | "data" = "preamble";
  let parts = 0;
  for await (const chunk of body) {
    held = Buffer.concat([held, chunk]);
    for (let more = true; more;) {
      more = false;
      if (state === "delimiter" && held.length >= 2) {
        if (held.subarray(0, 2).toString("latin1") === "--") return;
        const end = held.indexOf("\r\n");
        // Padding may follow a delimiter.
        if (end < 0 && held.length > boundaryLengthMax)
          throw malformed("a delimiter is not followed by a line");
        if (end < 0) break;
        if (++parts > partsMax) throw malformed(`it has more than ${partsMax} parts`);
        held = held.subarray(end);
        state = "headers";
      }
      if (state === "headers") {
        const end = held.indexOf("\r\n\r\n");
        if (end > headersBytesMax || (end < 0 && held.length > headersBytesMax))
          throw malformed("a part's headers are too long");
        if (end < 0) break;
        yield partOf(held.subarray(0, end).toString("utf8"));
        held = held.subarray(end + 4);
        state = "data";
      }
      const at = held.indexOf(delimiter);
      // What may be the beginning of a delimiter waits for the rest.
      const sure = at >= 0 ? at : Math.max(0, held.length - delimiter.length + 1);
      if (state === "data" && sure > 0) yield { type: "data", bytes: held.subarray(0, sure) };
      if (at >= 0) {
        held = held.subarray(at + delimiter.length);
        state = "delimiter";
        more = true;
      } else {
        held = held.subarray(sure);
      }
    }
  }
  throw malformed(parts === 0 ? "it has no parts" : "it ends too early");
}

function partOf(headers: string): FormEvent {
  const disposition = /^content-disposition:(.*)$/im.exec(headers)?.[1] ?? "";
  const name = parameterOf(disposition, "name");
  if (!/^\s*form-data\b/i.test(disposition) || name === null) throw malformed("a part has no name");
  return { type: "part", name, filename: parameterOf(disposition, "filename") };
}

function parameterOf(disposition: string, name: string): string | null {
  const found = new RegExp(`;\\s*${name}=(?:"((?:[^"\\\\]|\\\\.)*)"|([^\\s;"]+))`, "i").exec(disposition);
  if (found === null) return null;
  // Browsers and clients write what would end the text in percent, older ones with a backslash.
  const text = (found[1] ?? found[2]!).replaceAll(/\\(["\\])/g, "$1");
  return text.replaceAll("%22", '"').replaceAll("%0D", "\r").replaceAll("%0A", "\n");
}

function malformed(what: string): SkeinError {
  return new SkeinError("invalid_request", `The form cannot be read: ${what}.`, {
    hint: "Send multipart/form-data as every HTTP client makes it.",
  });
}
