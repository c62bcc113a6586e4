/** The demo model, converted, beside the modules that run it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { convertFile } from "../../../src/engine/exact/convert.ts";
import { temporaryHome, tinyModel } from "../processes.ts";
import { type ModuleServer, serveModules } from "./server.ts";

export async function convertDemo(): Promise<Uint8Array> {
  const home = temporaryHome();
  try {
    const path = join(home.path, "model.skein");
    await convertFile(tinyModel, path, { signal: new AbortController().signal });
    return readFileSync(path);
  } finally {
    home.remove();
  }
}

export function serveDemo(container: Uint8Array, isolated: boolean): Promise<ModuleServer> {
  const files = new Map([
    ["/model.skein", container],
    ["/model.gguf", readFileSync(tinyModel)],
  ]);
  return serveModules(files, { isolated });
}
