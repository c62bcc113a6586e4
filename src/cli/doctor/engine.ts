import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { platform } from "node:os";
import { promisify } from "node:util";
import { startLlamaProcess } from "../../engine/llama/process.ts";
import { toSkeinError } from "../../util/errors.ts";
import type { Context } from "../context.ts";
import { findLlamaEngine, installedBackends, missingEngine } from "../engine-install.ts";
import { demoModelFile } from "../package-info.ts";
import { type Check, fail, ok, warn } from "./checks.ts";

const run = promisify(execFile);
const commandTimeoutMs = 5_000;

/** Loads the demo model for real, in the same kind of process that serves. */
export async function checkEngine({ home }: Context): Promise<Check> {
  const found = findLlamaEngine(home);
  if (found === null) {
    const { message, hint } = missingEngine(home);
    return fail(message, hint!);
  }
  try {
    const engine = await startLlamaProcess(
      {
        modelPath: demoModelFile,
        moduleFolder: found.moduleFolder,
        contextTokens: 64,
        parallel: 1,
        threads: 1,
        gpu: "auto",
      },
      { onMessage: () => undefined, onExit: () => undefined },
    );
    await engine.close();
    return ok(
      `llama.cpp loads a model (backend ${engine.backend}; installed: ${installedBackends(found.folder).join(", ")})`,
    );
  } catch (error) {
    const { message, hint } = toSkeinError(error);
    return fail(`llama.cpp does not start: ${message}`, hint ?? "npx skein engine add llama");
  }
}

/** A GPU that is there but not used is worth a word. */
export async function checkGpu({ home }: Context): Promise<Check> {
  const found = findLlamaEngine(home);
  const backends = found === null ? [] : installedBackends(found.folder);
  const nvidia = await nvidiaGpu();
  if (nvidia !== null) {
    if (backends.some((backend) => backend.startsWith("cuda") || backend === "vulkan")) return ok(nvidia);
    return warn(`${nvidia}, but no GPU backend is installed`, "npx skein engine add llama --gpu cuda");
  }
  if (platform() === "darwin") return ok(backends.includes("metal") ? "Metal" : "none used");
  if (platform() === "linux" && existsSync("/dev/dri")) {
    if (backends.includes("vulkan")) return ok("Vulkan");
    return warn("a GPU is there, but no GPU backend is installed", "npx skein engine add llama --gpu vulkan");
  }
  return ok("none found; the CPU is used");
}

async function nvidiaGpu(): Promise<string | null> {
  try {
    const args = ["--query-gpu=name,memory.total", "--format=csv,noheader"];
    const { stdout } = await run("nvidia-smi", args, { timeout: commandTimeoutMs });
    return stdout.trim().split("\n")[0] ?? null;
  } catch {
    return null;
  }
}
