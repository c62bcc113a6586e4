/** Runs npm so that it ends with this process, whatever ends this process. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { SkeinError } from "../util/errors.ts";

/** npm removes what it was writing; longer than that is a hang. */
const stopTimeoutMs = 2_000;

export type RunNpm = (
  folder: string,
  args: readonly string[],
  options: { readonly signal: AbortSignal; readonly onOutput: (line: string) => void },
) => Promise<void>;

/** @throws SkeinError `engine_unavailable` with npm's reason, `cancelled` */
export const runNpm: RunNpm = (folder, args, { signal, onOutput }) =>
  new Promise((resolve, reject) => {
    if (signal.aborted) return reject(cancelled());
    const isWindows = process.platform === "win32";
    const child = spawn("npm", args, {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"],
      shell: isWindows,
      // A group of its own: npm starts processes, and all of them have to end with it.
      detached: !isWindows,
    });
    const reason = readReason(child, onOutput);
    const endNow = (): void => endGroup(child, "SIGKILL");
    let timer: NodeJS.Timeout | undefined;
    const stop = (): void => {
      endGroup(child, "SIGTERM");
      timer = setTimeout(endNow, stopTimeoutMs);
    };
    signal.addEventListener("abort", stop, { once: true });
    process.once("exit", endNow);
    const settle = (error: SkeinError | null): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      process.off("exit", endNow);
      if (signal.aborted) reject(cancelled());
      else if (error === null) resolve();
      else reject(error);
    };
    child.on("error", (error) => settle(failure(error.message)));
    child.on("close", (code) =>
      settle(code === 0 ? null : failure(reason().slice(0, 300) || `exit code ${code}`)),
    );
  });

/** npm explains a failure on many lines; the first says what it was. Other lines go to `onOutput`. */
function readReason(child: ChildProcess, onOutput: (line: string) => void): () => string {
  let reason = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => {
      for (const line of text.split("\n").filter((part) => part.trim() !== "")) {
        if (!line.startsWith("npm error")) onOutput(line);
        else if (reason === "" && !line.startsWith("npm error code"))
          reason = line.slice("npm error ".length);
      }
    });
  }
  return () => reason;
}

function endGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  if (process.platform === "win32") {
    spawnSync("taskkill", ["/T", "/F", "/PID", String(child.pid)], { stdio: "ignore" });
    return;
  }
  try {
    process.kill(-child.pid, signal);
  } catch {
    // The group has ended already.
  }
}

function cancelled(): SkeinError {
  return new SkeinError("cancelled", "The installation was stopped.");
}

function failure(why: string): SkeinError {
  return new SkeinError("engine_unavailable", `npm could not install the engine: ${why}`, {
    hint: "Check the network connection and proxy settings of npm, then try again.",
  });
}
