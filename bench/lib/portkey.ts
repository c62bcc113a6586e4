/**
 * Portkey's gateway, a rival of ours: installed from npm into the user's cache when a benchmark wants it. It is no
 * dependency of this project.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { runNpm } from "../../src/cli/npm.ts";

export const portkeyVersion = "1.15.2";
/** Later ones of its own dependencies break it: it names them by caret. */
const overrides = { "@hono/node-server": "1.13.5", hono: "4.9.7" };
const installTimeoutMs = 300_000;
const startTimeoutMs = 30_000;

export interface Portkey {
  readonly url: string;
  readonly child: ChildProcess;
  stop(): void;
}

/** Where to send a request to, as Portkey's configuration header. */
export function portkeyHeaders(strategy: object): Record<string, string> {
  return { "x-portkey-config": JSON.stringify(strategy) };
}

/** An OpenAI-compatible server as one of Portkey's targets. */
export function portkeyTarget(url: string): object {
  return { provider: "openai", custom_host: `${url}/v1`, api_key: "none" };
}

/** Installs it if need be, and runs it. @throws Error with the reason */
export async function startPortkey(port: number): Promise<Portkey> {
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const folder = join(cache, "skein", "bench", `portkey-${portkeyVersion}`);
  const entry = join(folder, "node_modules", "@portkey-ai", "gateway", "build", "start-server.js");
  const done = join(folder, "installed");
  if (!existsSync(done)) {
    console.log(`installing Portkey's gateway ${portkeyVersion} into ${folder} (once) …`);
    mkdirSync(folder, { recursive: true });
    const dependencies = { "@portkey-ai/gateway": portkeyVersion };
    writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, dependencies, overrides }));
    const args = ["install", "--omit=dev", "--ignore-scripts", "--no-fund", "--no-audit"];
    const signal = AbortSignal.timeout(installTimeoutMs);
    await runNpm(folder, args, { signal, onOutput: () => undefined });
    writeFileSync(done, "");
  }
  const child = spawn(process.execPath, [entry, `--port=${port}`, "--headless"], {
    cwd: folder,
    env: { ...process.env, NODE_ENV: "production" },
    stdio: "ignore",
  });
  const url = `http://127.0.0.1:${port}`;
  const stop = (): void => void child.kill("SIGKILL");
  process.once("exit", stop);
  const endMs = performance.now() + startTimeoutMs;
  while (!(await answers(url))) {
    if (child.exitCode !== null || performance.now() > endMs) {
      stop();
      throw new Error(`Portkey's gateway does not answer at ${url}.`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return { url, child, stop };
}

async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url)).ok;
  } catch {
    return false; // Not yet.
  }
}
