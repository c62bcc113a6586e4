/** llama.cpp itself, to compare with: its vocabularies, their expected outputs, and its tokenizer. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { readEntries, writeEntries } from "./fixture.suite.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
const moduleFolder = join(root, "engines", "llama", "node_modules", "node-llama-cpp");
const bundle = join(moduleFolder, "llama", "gitRelease.bundle");

/** The slice of node-llama-cpp that the comparison uses. */
export interface ReferenceModel {
  tokenize(text: string, special: boolean, options?: "trimLeadingSpace"): number[];
  dispose(): Promise<void>;
  readonly _model: {
    getTokenAttributes(token: number): number;
    isEogToken(token: number): boolean;
    shouldPrependBosToken(): boolean;
    tokenBos(): number;
  };
}

/** Why there is nothing to compare with; false when there is. */
export const isMissing: string | false = findMissing();

function findMissing(): string | false {
  if (!existsSync(bundle))
    return "the llama engine is not in engines/llama (skein engine add llama --bundled)";
  try {
    execFileSync("git", ["--version"], { stdio: "ignore" });
    return false;
  } catch {
    return "git is not installed, which unpacks llama.cpp's source";
  }
}

let repository: string | undefined;

/** A clone of llama.cpp's source, kept among the system's temporary files. */
function clone(): string {
  if (repository !== undefined) return repository;
  const { version } = JSON.parse(readFileSync(join(moduleFolder, "package.json"), "utf8")) as {
    version: string;
  };
  repository = join(tmpdir(), `skein-llama.cpp-${version}`);
  if (existsSync(join(repository, "HEAD"))) return repository;
  const fresh = mkdtempSync(join(tmpdir(), "skein-clone-"));
  execFileSync("git", ["clone", "--quiet", "--bare", bundle, fresh], { stdio: "ignore" });
  try {
    renameSync(fresh, repository);
  } catch (error) {
    // Another test run was faster.
    rmSync(fresh, { recursive: true, force: true });
    if (!existsSync(join(repository, "HEAD"))) throw error;
  }
  return repository;
}

export function sourceFile(path: string): Buffer {
  return execFileSync("git", ["-C", clone(), "show", `HEAD:${path}`], { maxBuffer: 1 << 28 });
}

export function vocabulary(name: string): Buffer {
  return sourceFile(`models/ggml-vocab-${name}.gguf`);
}

/** Texts and the tokens that llama.cpp's own tests expect. */
export function expectations(name: string): { text: string; tokens: number[] }[] {
  const texts = sourceFile(`models/ggml-vocab-${name}.gguf.inp`).toString().split("\n__ggml_vocab_test__\n");
  const lines = sourceFile(`models/ggml-vocab-${name}.gguf.out`).toString().split("\n");
  return texts.map((text, i) => ({
    text,
    tokens: lines[i]!.split(" ").flatMap((id) => (id.trim() === "" ? [] : [Number(id)])),
  }));
}

/** The vocabulary with other metadata. */
export function altered(file: Buffer, changes: Readonly<Record<string, string | boolean>>): Buffer {
  return writeEntries(readEntries(file), changes);
}

/** Loads a file that holds no weights. */
export async function withReference(file: Buffer, use: (model: ReferenceModel) => void): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "skein-vocabulary-"));
  const path = join(folder, "vocabulary.gguf");
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, file);
  const library = (await import(pathToFileURL(join(moduleFolder, "dist", "index.js")).href)) as {
    getLlama(options: object): Promise<{
      loadModel(options: object): Promise<ReferenceModel>;
      dispose(): Promise<void>;
    }>;
  };
  const llama = await library.getLlama({
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: "disabled",
    gpu: false,
  });
  try {
    const model = await llama.loadModel({ modelPath: path, vocabOnly: true, gpuLayers: 0 });
    try {
      use(model);
    } finally {
      await model.dispose();
    }
  } finally {
    await llama.dispose();
    rmSync(folder, { recursive: true, force: true });
  }
}
