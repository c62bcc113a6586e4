/** Starts gateway and provider processes, passes on what they report, and stops them for certain. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { isErrorCode, SkeinError } from "../util/errors.ts";
import { moduleExtension } from "./package-info.ts";
import type { GatewayConfig, ProviderConfig, Report } from "./processes/config.ts";

type Ready<Role extends "gateway" | "provider"> = Extract<Report, { type: "ready"; role: Role }>;

/** Longer than a large model takes to load from a slow disk. */
const startTimeoutMs = 15 * 60_000;
/** After this long a process that was asked to stop is killed. */
const stopTimeoutMs = 5_000;

export interface Supervised<Role extends "gateway" | "provider"> {
  readonly ready: Ready<Role>;
  readonly pid: number;
  /** Called when it ends without having been stopped. */
  onExit(listener: (how: string) => void): void;
  stop(): Promise<void>;
}

/** All processes that run now; `stopAll` leaves none behind. */
const children = new Set<ChildProcess>();

/** @throws SkeinError what the process said when it failed to start */
export function startProcess<C extends GatewayConfig | ProviderConfig>(
  config: C,
  onReport: (report: Report) => void,
): Promise<Supervised<C["role"]>> {
  const child = fork(fileURLToPath(new URL(`./processes/child.${moduleExtension}`, import.meta.url)), {
    execArgv: ["--disable-warning=ExperimentalWarning"],
    // "advanced" carries bigint amounts.
    serialization: "advanced",
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  children.add(child);
  let stopping = false;
  const exitListeners: ((how: string) => void)[] = [];
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new SkeinError("internal_error", `A ${config.role} process did not start in time.`));
    }, startTimeoutMs);
    child.on("message", (report: Report) => {
      if (report.type === "failed") {
        const { code, message, hint } = report;
        reject(
          new SkeinError(isErrorCode(code) ? code : "internal_error", message, hint === null ? {} : { hint }),
        );
      }
      onReport(report);
      if (report.type !== "ready") return;
      clearTimeout(timer);
      resolve({
        ready: report as Ready<C["role"]>,
        pid: child.pid!,
        onExit: (listener) => void exitListeners.push(listener),
        stop: () => {
          stopping = true;
          return stopChild(child);
        },
      });
    });
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      children.delete(child);
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
      reject(new SkeinError("internal_error", `A ${config.role} process ended while it started (${how}).`));
      if (!stopping) for (const listener of exitListeners) listener(how);
    });
    child.send(config);
  });
}

export async function stopAll(): Promise<void> {
  await Promise.all([...children].map(stopChild));
}

function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
    child.once("exit", () => {
      clearTimeout(timer);
      resolve();
    });
    child.kill("SIGTERM");
  });
}
