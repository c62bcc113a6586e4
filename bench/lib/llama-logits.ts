/**
 * Raw logits of llama.cpp for given tokens, on the CPU. It runs in a process of its own: a crash in native code costs one
 * measurement, not the whole benchmark.
 */
import { type ChildProcess, fork } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { OracleLoad, OracleReply, OracleTask } from "./llama-logits-child.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
/** Where `skein engine add llama --bundled` puts it; benchmarks and tests do so first. */
export const llamaModuleFolder: string = join(root, "engines", "llama", "node_modules", "node-llama-cpp");

/** Null when the engine is installed, else what to do, for tests that skip. */
export function missingLlama(): string | null {
  return existsSync(join(llamaModuleFolder, "package.json"))
    ? null
    : "llama.cpp is not installed: run `skein engine add llama --bundled`";
}

export interface LlamaOptions {
  readonly contextTokens: number;
  readonly threads?: number;
  /** Its cache of keys and values; llama.cpp's own default is F16. */
  readonly cacheType?: "F32" | "F16";
}

export interface LlamaOracle {
  /** Logits of the token after each position: positions × vocabulary, teacher-forced. */
  logits(tokenIds: readonly number[]): Promise<Float32Array>;
  /** With control tokens recognised. */
  tokenize(text: string): Promise<number[]>;
  close(): void;
}

/** Loading and every call fail when they take longer. */
const timeoutMs = 600_000;

export async function openLlama(modelPath: string, options: LlamaOptions): Promise<LlamaOracle> {
  const load: OracleLoad = {
    modelPath,
    moduleFolder: llamaModuleFolder,
    contextTokens: options.contextTokens,
    threads: options.threads ?? 1,
    cacheType: options.cacheType ?? "F32",
  };
  const child = fork(
    fileURLToPath(new URL("./llama-logits-child.ts", import.meta.url)),
    [JSON.stringify(load)],
    { serialization: "advanced", execArgv: ["--disable-warning=ExperimentalWarning"] },
  );
  const close = (): void => {
    child.kill();
  };
  try {
    await reply(child, "ready");
  } catch (error) {
    close();
    throw error;
  }
  // One at a time: replies carry no number.
  let last: Promise<unknown> = Promise.resolve();
  const ask = <K extends OracleReply["kind"]>(task: OracleTask, kind: K): Promise<ReplyOf<K>> => {
    const answer = last.then(() => {
      child.send(task);
      return reply(child, kind);
    });
    last = answer.catch(() => undefined);
    return answer;
  };
  return {
    logits: async (tokenIds) => (await ask({ kind: "logits", tokenIds }, "logits")).values,
    tokenize: async (text) => (await ask({ kind: "tokenize", text }, "tokens")).tokenIds,
    close,
  };
}

type ReplyOf<K extends OracleReply["kind"]> = Extract<OracleReply, { kind: K }>;

function reply<K extends OracleReply["kind"]>(child: ChildProcess, kind: K): Promise<ReplyOf<K>> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => done(() => reject(new Error("llama.cpp gave no answer"))), timeoutMs);
    const onExit = (code: number | null, signal: string | null): void =>
      done(() => reject(new Error(`llama.cpp's process ended (${signal ?? code})`)));
    const onMessage = (message: OracleReply): void =>
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
  });
}
