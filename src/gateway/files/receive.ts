/** One file and some short fields out of a form, written while it comes. */
import { SkeinError } from "../../util/errors.ts";
import { boundaryOf, readForm } from "./multipart.ts";
import type { Piece } from "./file-store.ts";
import type { PieceWriter } from "./piece-writer.ts";

/** Purposes, numbers. */
const fieldBytesMax = 1024;

export interface Received {
  readonly fields: ReadonlyMap<string, string>;
  readonly filename: string | null;
  readonly piece: Piece;
}

/**
 * @param fileField name of the field that holds the bytes
 * @throws SkeinError `unsupported_media_type`, `invalid_request`, what the writer throws
 */
export async function receiveForm(
  request: Request,
  fileField: string,
  writer: PieceWriter,
): Promise<Received> {
  const fields = new Map<string, string>();
  let filename: string | null = null;
  let seen = false;
  let field: string | null = null;
  try {
    const boundary = boundaryOf(request.headers.get("content-type"));
    for await (const event of readForm(request.body ?? emptyBody(), boundary)) {
      if (event.type === "part") {
        field = event.name === fileField ? null : event.name;
        if (field !== null) fields.set(field, "");
        else if (seen)
          throw new SkeinError("invalid_request", `'${fileField}' is there twice.`, { param: fileField });
        else ({ filename } = event);
        seen ||= field === null;
      } else if (field === null) {
        await writer.write(event.bytes);
      } else {
        const text = fields.get(field)! + Buffer.from(event.bytes).toString("latin1");
        if (text.length > fieldBytesMax)
          throw new SkeinError("invalid_request", `'${field.slice(0, 50)}' is too long.`);
        fields.set(field, text);
      }
    }
    if (seen) return { fields, filename, piece: await writer.end() };
  } catch (error) {
    await writer.drop();
    throw error instanceof SkeinError || !request.signal.aborted
      ? error
      : new SkeinError("cancelled", "The client went away.", { cause: error });
  }
  await writer.drop();
  throw new SkeinError("invalid_request", `'${fileField}' is missing.`, {
    param: fileField,
    hint: `Send the bytes as the form's field '${fileField}'.`,
  });
}

async function* emptyBody(): AsyncGenerator<Uint8Array> {}
