/** One run of the child process, from start to its end. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { SkeinError } from "../../util/errors.ts";
import type { Host, HostEvents } from "../hosted/engine.ts";
import { fromWire } from "../hosted/messages.ts";
import type { LlamaLoadOptions, LoadedFacts, ToChild, ToParent } from "./messages.ts";

/** Reading a 40 GB model from a slow disk takes minutes; longer is a hang. */
const loadTimeoutMs = 15 * 60_000;
const closeTimeoutMs = 3_000;
/** The same file, as TypeScript in a checkout and as JavaScript in a package. */
const childFile = fileURLToPath(new URL("./child.ts", import.meta.url)).replace(
  /\.ts$/,
  import.meta.url.endsWith(".ts") ? ".ts" : ".js",
);

interface LlamaProcess extends Host, LoadedFacts {
  readonly pid: number;
}

/** Starts a child and loads the model. @throws SkeinError when it cannot. */
export function startLlamaProcess(options: LlamaLoadOptions, events: HostEvents): Promise<LlamaProcess> {
  const child = fork(childFile, {
    serialization: "advanced",
    execArgv: ["--disable-warning=ExperimentalWarning"],
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  const stderr = lastText(child);
  return new Promise((resolve, reject) => {
    let loaded = false;
    const fail = (error: SkeinError): void => {
      clearTimeout(timer);
      child.kill("SIGKILL");
      reject(error);
    };
    const timer = setTimeout(
      () =>
        fail(
          new SkeinError(
            "engine_unavailable",
            `The model did not load within ${loadTimeoutMs / 60_000} minutes.`,
          ),
        ),
      loadTimeoutMs,
    );
    child.on("message", (message: ToParent) => {
      if (message.type === "loaded") {
        loaded = true;
        clearTimeout(timer);
        resolve(handleOf(child, message));
      } else if (message.type === "load-failed") {
        fail(fromWire(message.error));
      } else {
        events.onMessage(message);
      }
    });
    child.on("error", (error) => fail(new SkeinError("engine_unavailable", error.message, { cause: error })));
    child.on("exit", (code, signal) => {
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
      const why = `llama.cpp's process ended (${how})${stderr() === "" ? "" : `: ${stderr()}`}`;
      if (loaded) events.onExit(why);
      else
        fail(
          new SkeinError("engine_unavailable", why, { hint: "Run `skein doctor` to check this machine." }),
        );
    });
    child.send({ type: "load", options } satisfies ToChild);
  });
}

function handleOf(
  child: ChildProcess,
  { contextTokens, backend, dialect, hasInfill }: LoadedFacts,
): LlamaProcess {
  return {
    contextTokens,
    backend,
    dialect,
    hasInfill,
    pid: child.pid!,
    send: (message) => {
      if (child.connected) child.send(message);
    },
    kill: () => void child.kill("SIGKILL"),
    close: () => {
      if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
      const timer = setTimeout(() => child.kill("SIGKILL"), closeTimeoutMs);
      return new Promise((resolve) => {
        child.once("exit", () => {
          clearTimeout(timer);
          resolve();
        });
        child.kill("SIGTERM");
      });
    },
  };
}

/** The last line a child wrote to its error output: llama.cpp says there why it gives up. */
function lastText(child: ChildProcess): () => string {
  let text = "";
  child.stderr?.setEncoding("utf8");
  child.stderr?.on("data", (chunk: string) => {
    text = (text + chunk).slice(-2000);
  });
  return () => text.trim().split("\n").at(-1)?.slice(0, 300) ?? "";
}
