/** Real processes for end-to-end tests: started like a user starts them, watched, and always stopped. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const entry = join(root, "bin", "skein.mjs");
export const tinyModel: string = join(root, "models", "tiny.Q8_0.gguf");

/** Generous: the suite also runs on loaded machines. Reaching it is a failure, not a measurement. */
export const waitMs = 60_000;

export interface Running {
  readonly child: ChildProcess;
  /** Everything printed so far, both streams. */
  output(): string;
  /** Resolves with the first match in the output. */
  printed(pattern: RegExp): Promise<RegExpExecArray>;
  exited(): Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

const started = new Set<Running>();

/** Kills whatever a failed test left behind; call it in `after`. */
export async function killAll(): Promise<void> {
  for (const { child } of started) child.kill("SIGKILL");
  await Promise.all([...started].map((running) => running.exited()));
}

/** A folder for configuration and keys that no other test sees; removed by `remove`. */
export function temporaryHome(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "skein-e2e-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true, maxRetries: 3 }) };
}

/** Runs `skein …` as its own process. */
export function skein(home: string, ...args: string[]): Running {
  return skeinAt(entry, home, ...args);
}

/** Runs another installation's entry. */
export function skeinAt(file: string, home: string, ...args: string[]): Running {
  const child = spawn(process.execPath, [file, ...args], {
    env: { ...process.env, SKEIN_HOME: home, NO_COLOR: "1" },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let output = "";
  const waiting = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => {
      output += text;
      for (const check of waiting) check();
    });
  }
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.on("close", (code, signal) => {
      resolve({ code, signal });
      for (const check of waiting) check();
    });
  });
  const running: Running = {
    child,
    output: () => output,
    printed: (pattern) =>
      new Promise<RegExpExecArray>((resolve, reject) => {
        const finish = (act: () => void): void => {
          waiting.delete(check);
          clearTimeout(timer);
          act();
        };
        const check = (): void => {
          const match = pattern.exec(output);
          if (match !== null) finish(() => resolve(match));
          else if (child.exitCode !== null || child.signalCode !== null) {
            finish(() => reject(new Error(`exited without printing ${pattern}:\n${output}`)));
          }
        };
        const timer = setTimeout(
          () => finish(() => reject(new Error(`did not print ${pattern} in ${waitMs} ms:\n${output}`))),
          waitMs,
        );
        waiting.add(check);
        check();
      }),
    exited: () => within(ended, `exit of skein ${args.join(" ")}`),
  };
  started.add(running);
  void ended.then(() => started.delete(running));
  return running;
}

/** Process ids of everything that runs with a home folder, by its environment (Linux only; else none). */
export function processesWith(home: string): number[] {
  if (process.platform !== "linux") return [];
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "utf8").includes(`SKEIN_HOME=${home}\0`);
      } catch {
        return false; // Gone meanwhile, or not ours.
      }
    })
    .map(Number);
}

/** Runs `skein …` to its end and returns exit code and output. */
export async function skeinToEnd(
  home: string,
  ...args: string[]
): Promise<{ code: number | null; output: string }> {
  const running = skein(home, ...args);
  running.child.stdin?.end();
  const { code } = await running.exited();
  return { code, output: running.output() };
}

/** Stops a process as Ctrl-C would and waits for its end. */
export async function stop(running: Running): Promise<void> {
  if (running.child.exitCode === null && running.child.signalCode === null) running.child.kill("SIGINT");
  await running.exited();
}

export async function within<T>(promise: Promise<T>, what: string, timeoutMs = waitMs): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Polls until `probe` returns something other than null or undefined. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | null | undefined>,
  timeoutMs = waitMs,
): Promise<T> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const result = await probe();
    if (result !== null && result !== undefined) return result;
    if (performance.now() > endMs) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
