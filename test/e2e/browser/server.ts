/** Serves this project's modules to a browser: types are stripped, and names of packages become addresses. */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** Import maps would do, but workers have none. */
const packages: Readonly<Record<string, string>> = {
  cborg: "/node_modules/cborg/cborg.js",
  "multiformats/bases/base58": "/node_modules/multiformats/dist/src/bases/base58.js",
  zod: "/node_modules/zod/index.js",
  "@noble/hashes/sha2.js": "/node_modules/@noble/hashes/sha2.js",
};
const servedPaths =
  /^\/(?:src|test\/e2e\/browser|node_modules\/(?:cborg|multiformats|zod|@noble\/hashes))\/[\w./-]+\.(?:ts|js)$/;
const isolation = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};

export interface ModuleServer {
  readonly url: string;
  close(): Promise<void>;
}

/**
 * @param files served beside the modules, by path
 * @param options.isolated whether pages are cross-origin isolated, which gives them shared memory
 */
export async function serveModules(
  files: ReadonlyMap<string, Uint8Array>,
  options: { readonly isolated: boolean },
): Promise<ModuleServer> {
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname;
    const found = contentOf(path, files);
    response.writeHead(found === null ? 404 : 200, {
      "content-type": found?.type ?? "text/plain",
      ...(options.isolated ? isolation : {}),
    });
    response.end(found?.content);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function contentOf(
  path: string,
  files: ReadonlyMap<string, Uint8Array>,
): { type: string; content: string | Uint8Array } | null {
  if (path === "/") return { type: "text/html", content: "<!doctype html><title>Skein</title>" };
  const file = files.get(path);
  if (file !== undefined) return { type: "application/octet-stream", content: file };
  if (!servedPaths.test(path) || path.includes("..")) return null;
  try {
    return { type: "text/javascript", content: moduleAt(path) };
  } catch {
    return null;
  }
}

function moduleAt(path: string): string {
  const text = readFileSync(join(root, path), "utf8");
  const script = path.endsWith(".ts") ? stripTypeScriptTypes(text) : text;
  return script.replaceAll(/(\b(?:from|import)\s*)"([^".][^"]*)"/g, (whole, before: string, name: string) =>
    packages[name] === undefined ? whole : `${before}"${packages[name]}"`,
  );
}
