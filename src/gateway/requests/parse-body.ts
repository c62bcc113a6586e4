import { SkeinError } from "../../util/errors.ts";
import { requestBodyBytesMax } from "../options.ts";

const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * Reads a JSON object from a request, counting bytes while it reads.
 *
 * @throws SkeinError `request_too_large`, `unsupported_media_type`, `invalid_json`, `invalid_request`
 */
export async function parseBody(request: Request): Promise<Record<string, unknown>> {
  const type = request.headers.get("content-type");
  // Programs that send no type at all exist; a form is a mistake, or a foreign page's trick.
  if (type !== null && !/^application\/([\w.-]+\+)?json\b/i.test(type)) {
    throw new SkeinError("unsupported_media_type", `The body's type is ${type.slice(0, 100)}, not JSON.`, {
      hint: "Send content-type: application/json.",
    });
  }
  const text = decodeText(await readBytes(request));
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new SkeinError("invalid_json", `The body is not valid JSON: ${reasonOf(error, text)}.`, {
      hint: "Send one JSON object.",
      cause: error,
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new SkeinError("invalid_request", "The body must be a JSON object.");
  }
  return value as Record<string, unknown>;
}

/** Says where: the engine's message names a position, shows the surroundings, or means the end. */
function reasonOf(error: unknown, text: string): string {
  const message = error instanceof Error ? error.message.slice(0, 200) : "";
  return /end of JSON/i.test(message) ? `it ends too early, after ${text.length} characters` : message;
}

/** Counts while it reads. @throws SkeinError `request_too_large` */
export async function readBytes(request: Request): Promise<Uint8Array> {
  const announced = request.headers.get("content-length");
  if (Number(announced ?? 0) > requestBodyBytesMax) throw tooLarge();
  if (announced !== null) {
    // No more comes than is announced. In one piece it costs a tenth of the web's streams.
    const body = new Uint8Array(await request.arrayBuffer());
    if (body.length > requestBodyBytesMax) throw tooLarge();
    return body;
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body ?? []) {
    bytes += chunk.length;
    if (bytes > requestBodyBytesMax) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function decodeText(bytes: Uint8Array): string {
  try {
    return strictUtf8.decode(bytes);
  } catch (error) {
    throw new SkeinError("invalid_json", "The body is not valid UTF-8.", {
      hint: "Encode the JSON as UTF-8.",
      cause: error,
    });
  }
}

function tooLarge(): SkeinError {
  return new SkeinError("request_too_large", `The body is larger than ${requestBodyBytesMax} bytes.`, {
    hint: "Shorten the messages.",
  });
}
