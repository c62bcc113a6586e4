/**
 * Native engines live apart from the package: npm ignores a package's `overrides` once it is installed, and
 * without them node-llama-cpp would bring every GPU backend. So an engine gets a folder with a package.json
 * and a lockfile of its own: in the user's home, or (in a checkout) in `engines/`.
 */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { SkeinError } from "../util/errors.ts";
import type { RunNpm } from "./npm.ts";
import { packageFolder } from "./package-info.ts";

export type GpuBackend = "cuda" | "vulkan";

const templateFolder: string = join(packageFolder, "engines", "llama");
const moduleName = "node-llama-cpp";
/** Written last: with it an installation is whole. */
const stampName = ".skein-engine.json";
const workFolderPrefix = ".install-";

export function userEngineFolder(home: string): string {
  return join(home, "engines", "llama");
}

/** What lies in an engine's folder. */
export interface EngineState {
  /** `broken`: no whole installation. `outdated`: of another version of Skein, or for another platform. */
  readonly state: "none" | "broken" | "outdated" | "ready";
  /** The backend that was asked for, where that is known. */
  readonly gpu: GpuBackend | null;
}

interface Stamp {
  readonly lock: string;
  readonly gpu: GpuBackend | null;
  readonly platform: string;
}

export function engineStateOf(folder: string): EngineState {
  const modules = join(folder, "node_modules");
  if (!existsSync(modules)) return { state: "none", gpu: null };
  const stamp = readStamp(join(modules, stampName));
  if (stamp === null || !existsSync(join(modules, moduleName, "package.json")))
    return { state: "broken", gpu: stamp?.gpu ?? null };
  const { lock, platform } = stampFor(null);
  return { state: stamp.lock === lock && stamp.platform === platform ? "ready" : "outdated", gpu: stamp.gpu };
}

/** Where the engine is installed: the user's own choice first, then what a checkout brings. */
export function findLlamaEngine(home: string): { folder: string; moduleFolder: string } | null {
  for (const folder of [userEngineFolder(home), templateFolder]) {
    const { state, gpu } = engineStateOf(folder);
    if (state === "ready") return { folder, moduleFolder: join(folder, "node_modules", moduleName) };
    // A GPU that was asked for must not silently become a CPU.
    if (gpu !== null) return null;
  }
  return null;
}

/** @throws SkeinError `engine_not_installed` */
export function requireLlamaEngine(home: string): string {
  const found = findLlamaEngine(home);
  if (found === null) throw missingEngine(home);
  return found.moduleFolder;
}

/** Why there is no engine, and what to do. */
export function missingEngine(home: string): SkeinError {
  const { state, gpu } = engineStateOf(userEngineFolder(home));
  const message =
    state === "broken"
      ? "The llama engine is only half installed."
      : state === "outdated"
        ? "The llama engine belongs to another version of Skein."
        : "The llama engine is not installed.";
  const flag = gpu === null ? "" : ` --gpu ${gpu}`;
  return new SkeinError("engine_not_installed", message, {
    hint: `Run \`npx skein engine add llama${flag}\`.`,
  });
}

export interface InstallOptions {
  readonly gpu: GpuBackend | null;
  /** Into the package's own folder instead of the user's. */
  readonly bundled: boolean;
  readonly signal: AbortSignal;
  readonly onOutput: (line: string) => void;
  readonly runNpm: RunNpm;
}

/**
 * Installs unless the same thing is installed already. Whole or not at all: everything is made in a folder of
 * its own, and moves to its place when it is complete.
 *
 * @throws SkeinError `engine_unavailable`, `cancelled`
 */
export async function installLlamaEngine(
  home: string,
  options: InstallOptions,
): Promise<{ folder: string; installed: boolean }> {
  const folder = options.bundled ? templateFolder : userEngineFolder(home);
  const current = engineStateOf(folder);
  if (current.state === "ready" && current.gpu === options.gpu) return { folder, installed: false };

  mkdirSync(folder, { recursive: true, mode: 0o700 });
  removeAbandoned(folder);
  const workFolder = join(folder, `${workFolderPrefix}${process.pid}`);
  rmSync(workFolder, { recursive: true, force: true });
  mkdirSync(workFolder);
  try {
    const [manifest, lock] = [readTemplate("package.json"), readTemplate("package-lock.json")];
    writeFileSync(join(workFolder, "package.json"), withGpu(manifest, options.gpu));
    writeFileSync(join(workFolder, "package-lock.json"), lockWithGpu(lock, options.gpu));
    // `ci` installs the lockfile to the letter; a GPU backend is not in it and has to be added.
    const command = options.gpu === null ? "ci" : "install";
    const flags = ["--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error"];
    await options.runNpm(workFolder, [command, ...flags], options);
    removeForeignBinaries(workFolder);
    writeFileSync(join(workFolder, "node_modules", stampName), JSON.stringify(stampFor(options.gpu)));
    moveIntoPlace(workFolder, folder, options.gpu);
  } finally {
    rmSync(workFolder, { recursive: true, force: true });
  }
  return { folder, installed: true };
}

function moveIntoPlace(workFolder: string, folder: string, gpu: GpuBackend | null): void {
  const place = join(folder, "node_modules");
  const replaced = join(workFolder, "replaced");
  try {
    if (existsSync(place)) renameSync(place, replaced);
    renameSync(join(workFolder, "node_modules"), place);
  } catch (error) {
    if (existsSync(replaced) && !existsSync(place)) renameSync(replaced, place);
    // Another process may have installed the same thing meanwhile.
    const { state, gpu: installedGpu } = engineStateOf(folder);
    if (state === "ready" && installedGpu === gpu) return;
    throw new SkeinError("engine_unavailable", `The engine cannot be moved to ${place}: ${String(error)}`, {
      hint: "Stop what uses the engine, then try again.",
      cause: error,
    });
  }
}

/** What killed installations left behind. */
function removeAbandoned(folder: string): void {
  for (const name of readdirSync(folder).filter((entry) => entry.startsWith(workFolderPrefix))) {
    const pid = Number(name.slice(workFolderPrefix.length));
    if (!isRunning(pid)) rmSync(join(folder, name), { recursive: true, force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function readTemplate(name: string): string {
  return readFileSync(join(templateFolder, name), "utf8");
}

function stampFor(gpu: GpuBackend | null): Stamp {
  const lock = createHash("sha256").update(readTemplate("package-lock.json")).digest("hex");
  return { lock, gpu, platform: `${process.platform}-${process.arch}` };
}

function readStamp(file: string): Stamp | null {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Stamp;
  } catch {
    return null;
  }
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
