/**
 * Raw logits of llama.cpp for given tokens, on the CPU. It runs in a process of its own: a crash in native code costs one
 * measurement, not the whole benchmark.
 */
import { type ChildProcess, fork } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { llamaModuleFolder } from "./llama-module.ts";
import type { LlamaReply, LlamaTask, ReplyKind, ReplyOf } from "./llama-logits-child.ts";

/** Where `skein engine add llama --bundled` puts it; benchmarks and tests do so first. */
const moduleFolder = llamaModuleFolder;

/** Null when the engine is installed, else what to do, for tests that skip. */
export function missingLlama(): string | null {
  return existsSync(join(moduleFolder, "package.json"))
    ? null
    : "llama.cpp is not installed: run `skein engine add llama --bundled`";
}

export interface LlamaOptions {
  readonly contextTokens: number;
  readonly threads?: number;
  /** Of its cache of keys and values, F32 unless given; llama.cpp's own default is F16. */
  readonly cacheType?: "F32" | "F16";
}

export interface LlamaModel {
  /** Logits of the token after each position: positions × vocabulary, teacher-forced. */
  logits(tokenIds: readonly number[]): Promise<Float32Array>;
  /** With control tokens recognised. */
  tokenize(text: string): Promise<number[]>;
  close(): Promise<void>;
}

export interface LlamaProcess {
  load(modelPath: string, options: LlamaOptions): Promise<LlamaModel>;
  close(): void;
}

/** Loading and every call fail when they take longer. */
const timeoutMs = 600_000;

export async function startLlama(): Promise<LlamaProcess> {
  const child = fork(fileURLToPath(new URL("./llama-logits-child.ts", import.meta.url)), [moduleFolder], {
    serialization: "advanced",
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  try {
    await exchange(child, null, "ready");
  } catch (error) {
    child.kill();
    throw error;
  }
  // One at a time: replies carry no number.
  let last: Promise<unknown> = Promise.resolve();
  const ask = <K extends ReplyKind>(task: LlamaTask, kind: K): Promise<ReplyOf<K>> => {
    const answer = last.then(() => exchange(child, task, kind));
    last = answer.catch(() => undefined);
    return answer;
  };
  let models = 0;
  return {
    close: () => {
      child.kill();
    },
    load: async (modelPath, { contextTokens, threads = 1, cacheType = "F32" }) => {
      const model = models++;
      await ask({ kind: "load", model, modelPath, contextTokens, threads, cacheType }, "ready");
      return {
        logits: async (tokenIds) => (await ask({ kind: "logits", model, tokenIds }, "logits")).values,
        tokenize: async (text) => (await ask({ kind: "tokenize", model, text }, "tokens")).tokenIds,
        close: async () => {
          await ask({ kind: "close", model }, "ready");
        },
      };
    },
  };
}

/** Sends a task, or only waits, and takes the next message for the reply. */
function exchange<K extends ReplyKind>(
  child: ChildProcess,
  task: LlamaTask | null,
  kind: K,
): Promise<ReplyOf<K>> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => done(() => reject(new Error("llama.cpp gave no answer"))), timeoutMs);
    const onExit = (code: number | null, signal: string | null): void =>
      done(() => reject(new Error(`llama.cpp's process ended (${signal ?? code})`)));
    const onMessage = (message: LlamaReply): void =>
      done(() => {
        if (message.kind === kind) resolve(message as ReplyOf<K>);
        else reject(new Error(message.kind === "failed" ? message.reason : `unexpected ${message.kind}`));
      });
    const done = (settle: () => void): void => {
      clearTimeout(timer);
      child.off("exit", onExit);
      child.off("message", onMessage);
      settle();
    };
    child.on("exit", onExit);
    child.on("message", onMessage);
    // A process that was killed may still answer what it had begun.
    if (!child.connected || child.killed) done(() => reject(new Error("llama.cpp's process has ended")));
    else if (task !== null) child.send(task, (error) => error && done(() => reject(error)));
  });
}
