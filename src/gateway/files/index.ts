/** /v1/files and /v1/uploads: what clients keep at the gateway, above all the input and output of batches. */
import type { Context } from "hono";
import { SkeinError } from "../../util/errors.ts";
import { type App, type AskerOf, wrongMethod } from "../http/app.ts";
import { parseBody } from "../requests/parse-body.ts";
import { parseListQuery } from "../kept/records.ts";
import type { FileDeps, Files, StoredFile } from "./file-store.ts";
import { dropPiece } from "./file-store.ts";
import { receiveForm } from "./receive.ts";
import { Uploads } from "./uploads.ts";
import { fileView, filenameOf, lifetimeOf, purposeOf } from "./views.ts";

/** As OpenAI has it. */
const listed = { limitDefault: 10_000, limitMax: 10_000 };

export function mountFiles(app: App, deps: FileDeps, files: Files, askerOf: AskerOf): void {
  const find = (c: Context): Promise<StoredFile> => files.get(askerOf(c).owner, c.req.param("id")!);

  app.post("/v1/files", async (c) => {
    const { owner } = askerOf(c);
    const received = await receiveForm(c.req.raw, "file", await files.writer(owner));
    const { fields, filename, piece } = received;
    try {
      const purpose = purposeOf(fields.get("purpose"));
      const lifetimeMs = lifetimeOf(lifetimeField(fields));
      const facts = { filename: filenameOf(filename), purpose, pieces: [piece], lifetimeMs };
      return c.json(fileView(await files.add(owner, facts)));
    } catch (error) {
      await deps.store.commit({ changes: dropPiece(piece.id) });
      throw error;
    }
  });
  app.get("/v1/files", async (c) => {
    const purpose = c.req.query("purpose");
    const view = (file: StoredFile) =>
      purpose === undefined || file.purpose === purpose ? fileView(file) : null;
    return c.json(await files.list(askerOf(c).owner, parseListQuery(c.req.query(), listed), view));
  });
  app.get("/v1/files/:id", async (c) => c.json(fileView(await find(c))));
  app.get("/v1/files/:id/content", async (c) => contentResponse(files, await find(c)));
  app.delete("/v1/files/:id", async (c) => {
    const file = await find(c);
    await files.delete(askerOf(c).owner, file);
    return c.json({ id: file.id, object: "file", deleted: true });
  });
  app.all("/v1/files", (c) => wrongMethod(c, "GET, POST"));
  app.all("/v1/files/:id", (c) => wrongMethod(c, "GET, DELETE"));
  app.all("/v1/files/:id/content", (c) => wrongMethod(c, "GET"));
  mountUploads(app, new Uploads(deps, files), askerOf);
}

function mountUploads(app: App, uploads: Uploads, askerOf: AskerOf): void {
  const id = (c: Context): string => c.req.param("id")!;
  app.post("/v1/uploads", async (c) =>
    c.json(await uploads.create(askerOf(c).owner, await parseBody(c.req.raw))),
  );
  app.post("/v1/uploads/:id/parts", async (c) =>
    c.json(await uploads.addPart(askerOf(c).owner, id(c), c.req.raw)),
  );
  app.post("/v1/uploads/:id/complete", async (c) =>
    c.json(await uploads.complete(askerOf(c).owner, id(c), await parseBody(c.req.raw))),
  );
  app.post("/v1/uploads/:id/cancel", async (c) => c.json(await uploads.cancel(askerOf(c).owner, id(c))));
  for (const path of ["", "/:id/parts", "/:id/complete", "/:id/cancel"]) {
    app.all(`/v1/uploads${path}`, (c) => wrongMethod(c, "POST"));
  }
}

/** A form's `expires_after[anchor]` and `expires_after[seconds]` as the object that JSON would have. */
function lifetimeField(fields: ReadonlyMap<string, string>): unknown {
  const anchor = fields.get("expires_after[anchor]");
  const seconds = fields.get("expires_after[seconds]");
  if (anchor === undefined && seconds === undefined) return null;
  return { anchor, seconds: Number(seconds) };
}

/** Record by record, as fast as the client reads. */
function contentResponse(files: Files, file: StoredFile): Response {
  const records = files.read(file);
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { value, done } = await records.next();
          if (done === true) controller.close();
          else controller.enqueue(value);
        } catch (error) {
          controller.error(
            new SkeinError("store_failed", "The file cannot be read to its end.", { cause: error }),
          );
        }
      },
      async cancel() {
        await records.return();
      },
    },
    { highWaterMark: 1 },
  );
  return new Response(body, {
    headers: {
      "content-type": "application/octet-stream",
      "content-length": String(file.bytes),
      "content-disposition": `attachment; filename*=UTF-8''${encodeURIComponent(file.filename)}`,
    },
  });
}
