/** Starts gateway and provider processes, passes on what they report, and stops them for certain. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { isErrorCode, SkeinError } from "../util/errors.ts";
import type { Mortal } from "./keep-running.ts";
import { moduleExtension } from "./package-info.ts";
import type { GatewayConfig, ProviderConfig, Report } from "./processes/config.ts";

type Ready<Role extends "gateway" | "provider"> = Extract<Report, { type: "ready"; role: Role }>;

/** Longer than a large model takes to load from a slow disk. */
const startTimeoutMs = 15 * 60_000;
/** After this long a process that was asked to stop is killed. */
const stopTimeoutDefaultMs = 5_000;
/** The system removes a killed process at once, unless a disk or driver holds it; then nobody can help. */
const killTimeoutMs = 2_000;

export interface Supervised<Role extends "gateway" | "provider"> extends Mortal {
  readonly ready: Ready<Role>;
  readonly pid: number;
}

export interface Supervisor {
  /** @throws SkeinError what the process said when it failed to start; `cancelled` when all is stopped */
  start<C extends GatewayConfig | ProviderConfig>(
    config: C,
    onReport: (report: Report) => void,
  ): Promise<Supervised<C["role"]>>;
  /** Ends all processes, and starts no more. Bounded in time. */
  stopAll(): Promise<void>;
}

const childFile = fileURLToPath(new URL(`./processes/child.${moduleExtension}`, import.meta.url));

interface SupervisorOptions {
  /** What to run: it gets a configuration as its first message and answers with reports. */
  readonly file: string;
  readonly stopTimeoutMs: number;
}

export function createSupervisor(
  { file, stopTimeoutMs }: SupervisorOptions = { file: childFile, stopTimeoutMs: stopTimeoutDefaultMs },
): Supervisor {
  const children = new Set<ChildProcess>();
  let stopping = false;

  function start<C extends GatewayConfig | ProviderConfig>(
    config: C,
    onReport: (report: Report) => void,
  ): Promise<Supervised<C["role"]>> {
    if (stopping) return Promise.reject(new SkeinError("cancelled", "Everything is stopping."));
    const child = fork(file, {
      execArgv: ["--disable-warning=ExperimentalWarning"],
      // "advanced" carries bigint amounts.
      serialization: "advanced",
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    children.add(child);
    child.once("exit", () => children.delete(child));
    return untilReady(child, config, onReport, () => !stopping);
  }

  return {
    start,
    async stopAll() {
      stopping = true;
      await Promise.all([...children].map((child) => stopChild(child, stopTimeoutMs)));
    },
  };
}

function untilReady<C extends GatewayConfig | ProviderConfig>(
  child: ChildProcess,
  config: C,
  onReport: (report: Report) => void,
  isUnexpected: () => boolean,
): Promise<Supervised<C["role"]>> {
  const ended = Promise.withResolvers<string>();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new SkeinError("internal_error", `A ${config.role} process did not start in time.`));
    }, startTimeoutMs);
    child.on("message", (report: Report) => {
      if (report.type === "failed") reject(failureOf(report));
      onReport(report);
      if (report.type !== "ready") return;
      clearTimeout(timer);
      resolve({
        ready: report as Ready<C["role"]>,
        pid: child.pid!,
        onExit: (listener) => void ended.promise.then((how) => isUnexpected() && listener(how)),
      });
    });
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
      reject(new SkeinError("internal_error", `A ${config.role} process ended while it started (${how}).`));
      ended.resolve(how);
    });
    child.send(config);
  });
}

function failureOf({ code, message, hint }: Extract<Report, { type: "failed" }>): SkeinError {
  return new SkeinError(isErrorCode(code) ? code : "internal_error", message, hint === null ? {} : { hint });
}

function stopChild(child: ChildProcess, stopTimeoutMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    const timers = [
      setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs),
      setTimeout(resolve, stopTimeoutMs + killTimeoutMs),
    ];
    child.once("exit", () => {
      timers.forEach(clearTimeout);
      resolve();
    });
    child.kill("SIGTERM");
  });
}
