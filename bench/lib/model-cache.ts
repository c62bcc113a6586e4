/** Where benchmarks keep models that take long to make: nobody else can put files there. */
import { existsSync } from "node:fs";
import { chmod, mkdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

/** Makes `name` with `make` unless it is there; `make` must write it whole or not at all. */
export async function cachedFile(name: string, make: (path: string) => Promise<unknown>): Promise<string> {
  const folder = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "skein-bench");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  const path = join(folder, name);
  if (!existsSync(path)) await make(path);
  return path;
}
