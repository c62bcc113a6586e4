/**
 * Native engines live apart from the package: npm ignores a package's `overrides` once it is installed, and
 * without them node-llama-cpp would bring every GPU backend. So an engine gets a folder with a package.json
 * and a lockfile of its own: in the user's home, or (in a checkout) in `engines/`.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SkeinError } from "../util/errors.ts";
import { packageFolder } from "./package-info.ts";

export type GpuBackend = "cuda" | "vulkan";

const templateFolder: string = join(packageFolder, "engines", "llama");
const moduleName = "node-llama-cpp";
const stampName = ".skein-engine.json";

export function userEngineFolder(home: string): string {
  return join(home, "engines", "llama");
}

/** Where the engine is installed: the user's own choice first, then what a checkout brings. */
export function findLlamaEngine(home: string): { folder: string; moduleFolder: string } | null {
  for (const folder of [userEngineFolder(home), templateFolder]) {
    const moduleFolder = join(folder, "node_modules", moduleName);
    if (existsSync(join(moduleFolder, "package.json"))) return { folder, moduleFolder };
  }
  return null;
}

export function requireLlamaEngine(home: string): string {
  const found = findLlamaEngine(home);
  if (found !== null) return found.moduleFolder;
  throw new SkeinError("engine_not_installed", "The llama engine is not installed.", {
    hint: "Run `skein engine add llama`.",
  });
}

export interface InstallOptions {
  readonly gpu: GpuBackend | null;
  /** Into the package's own folder instead of the user's. */
  readonly bundled: boolean;
  readonly onOutput: (line: string) => void;
}

/** Installs unless the same thing is installed already. @throws SkeinError `engine_unavailable` */
export async function installLlamaEngine(
  home: string,
  options: InstallOptions,
): Promise<{ folder: string; installed: boolean }> {
  const folder = options.bundled ? templateFolder : userEngineFolder(home);
  const manifest = readFileSync(join(templateFolder, "package.json"), "utf8");
  const lock = readFileSync(join(templateFolder, "package-lock.json"), "utf8");
  const wanted = JSON.stringify({
    lock: createHash("sha256").update(lock).digest("hex"),
    gpu: options.gpu,
    platform: `${process.platform}-${process.arch}`,
  });
  const stampFile = join(folder, "node_modules", stampName);
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === wanted)
    return { folder, installed: false };

  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (!options.bundled) {
    writeFileSync(join(folder, "package.json"), withGpu(manifest, options.gpu));
    writeFileSync(join(folder, "package-lock.json"), lockWithGpu(lock, options.gpu));
  }
  // `ci` installs the lockfile to the letter; a GPU backend is not in it and has to be added.
  const command = options.gpu === null ? "ci" : "install";
  await npm(
    folder,
    [command, "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error"],
    options.onOutput,
  );
  removeForeignBinaries(folder);
  writeFileSync(stampFile, wanted);
  return { folder, installed: true };
}

/** The manifest without the overrides that replace the wanted backend by an empty package. */
export function withGpu(manifest: string, gpu: GpuBackend | null): string {
  if (gpu === null) return manifest;
  const parsed = JSON.parse(manifest) as { overrides: Record<string, Record<string, string>> };
  const overrides = parsed.overrides[moduleName]!;
  for (const name of Object.keys(overrides)) if (name.includes(gpu)) delete overrides[name];
  return `${JSON.stringify(parsed, null, 2)}\n`;
}

/** The lockfile without the empty packages that stand for the wanted backend: npm then resolves the real ones. */
export function lockWithGpu(lock: string, gpu: GpuBackend | null): string {
  if (gpu === null) return lock;
  const parsed = JSON.parse(lock) as { packages: Record<string, unknown> };
  for (const name of Object.keys(parsed.packages)) {
    if (name.includes("@node-llama-cpp/") && name.includes(gpu)) delete parsed.packages[name];
  }
  return `${JSON.stringify(parsed, null, 2)}\n`;
}

/** Some binaries install on machines that cannot run them (cross-compiling); they only cost space. */
function removeForeignBinaries(folder: string): void {
  const scope = join(folder, "node_modules", "@node-llama-cpp");
  if (!existsSync(scope)) return;
  const platform =
    { darwin: "mac", win32: "win", linux: "linux" }[process.platform as string] ?? process.platform;
  for (const name of readdirSync(scope)) {
    if (!name.startsWith(`${platform}-${process.arch}`))
      rmSync(join(scope, name), { recursive: true, force: true });
  }
}

/** Backends whose binaries are there. */
export function installedBackends(folder: string): string[] {
  const scope = join(folder, "node_modules", "@node-llama-cpp");
  if (!existsSync(scope)) return [];
  return readdirSync(scope)
    .filter((name) => existsSync(join(scope, name, "bins")))
    .map((name) => /cuda-ext|cuda|vulkan|metal/.exec(name)?.[0] ?? "cpu");
}

export function folderBytes(folder: string): number {
  let bytes = 0;
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name)).size;
  }
  return bytes;
}

function npm(folder: string, args: string[], onOutput: (line: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("npm", args, {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"],
      shell: process.platform === "win32",
    });
    let reason = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text: string) => {
        for (const line of text.split("\n").filter((part) => part.trim() !== "")) {
          // npm explains a failure on many lines; the first says what it was.
          if (!line.startsWith("npm error")) onOutput(line);
          else if (reason === "" && !line.startsWith("npm error code"))
            reason = line.slice("npm error ".length);
        }
      });
    }
    const fail = (why: string): void =>
      reject(
        new SkeinError("engine_unavailable", `npm could not install the engine: ${why}`, {
          hint: "Check the network connection and proxy settings of npm, then try again.",
        }),
      );
    child.on("error", (error) => fail(error.message));
    child.on("close", (code) => (code === 0 ? resolve() : fail(reason.slice(0, 300) || `exit code ${code}`)));
  });
}
