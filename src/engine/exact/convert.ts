/** From a model file of whatever kind to a converted one (`.skein`), once for each model. */
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { type ConvertedModel, writeContainer } from "../../exact/container/write.ts";
import { type ImportedModel, importGguf } from "../../exact/import/gguf.ts";
import { importHuggingFace, isHuggingFaceFile } from "../../exact/import/hugging-face.ts";
import { exactShapeOf } from "../../exact/import/shape.ts";
import type { Quantization } from "../../exact/model/model.ts";
import { opsHash, opsVersion } from "../../exact/ops/version.ts";
import { invalidModelFile } from "../../formats/errors.ts";
import { toHex } from "../../util/bytes.ts";
import { SkeinError } from "../../util/errors.ts";
import { stateOfFiles } from "../file-state.ts";
import { type FileSource, openFileSource } from "../file-source.ts";
import { nameOf } from "../gguf/inspect.ts";
import { readGgufHeader } from "../gguf/read.ts";
import { checkIsFileOrNothing, removeAbandoned, writeFileAtomically } from "./file-target.ts";
import { weightBytes } from "./memory-plan.ts";
import { sha256 } from "../sha256.ts";

export interface ConvertFileOptions {
  readonly signal: AbortSignal;
  /** Default: int8-row. Only for models that are to be converted. */
  readonly quantization?: Quantization;
  /** Called with the number of weights done and of all. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Converts a model in any format to `target`, which is replaced when the new one is whole.
 * @throws SkeinError `invalid_model_file`, `unsupported_model`, `invalid_config` (cannot write), `cancelled`
 */
export async function convertFile(
  path: string,
  target: string,
  options: ConvertFileOptions,
): Promise<ConvertedModel> {
  await checkIsFileOrNothing(target);
  const { kind, paths } = await filesOf(path);
  await checkIsNoSource(target, paths);
  const sources: FileSource[] = [];
  try {
    for (const each of paths) sources.push(await openFileSource(each));
    const { source, tokenizer } = await importModel(path, kind, sources, options.signal);
    const room = weightBytes(exactShapeOf(source.shape), options.quantization ?? "int8-row");
    return await writeFileAtomically(target, room, (file) =>
      writeContainer(source, { name: nameOf(path), tokenizer }, file, sha256, options),
    );
  } finally {
    await Promise.all(sources.map((each) => each.close()));
  }
}

function importModel(
  path: string,
  kind: SourceKind,
  sources: readonly FileSource[],
  signal: AbortSignal,
): Promise<ImportedModel> {
  if (kind === "gguf") return importGguf(sources, signal);
  const files = new Map(sources.map((source) => [basename(source.name), source]));
  return importHuggingFace(path, files, signal);
}

export interface PreparedModel {
  /** The converted model. */
  readonly path: string;
  /** Whether it was made from another file and may be made again. */
  readonly isCached: boolean;
}

/**
 * Finds or makes the converted model of `path`: itself when it is one, else a file in `folder`.
 * @throws SkeinError as `convertFile`, `invalid_config` where a converted model's quantization is asked for
 */
export async function prepareModel(
  path: string,
  folder: string,
  options: ConvertFileOptions,
): Promise<PreparedModel> {
  if ((await kindOf(path)) === "skein") {
    if (options.quantization === undefined) return { path, isCached: false };
    throw new SkeinError("invalid_config", `${path} is converted already: its weights keep their bits.`, {
      hint: "Leave --bits out, or give the model that it was made from.",
    });
  }
  const { paths } = await filesOf(path);
  const quantization = options.quantization ?? "int8-row";
  const key = await stateOfFiles(paths, `exact-${opsVersion}-${toHex(opsHash)}-${quantization}`);
  const target = join(folder, `${nameOf(path)}-${quantization}-${key}.skein`);
  if ((await stat(target).catch(() => null)) === null) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await removeAbandoned(folder);
    await convertFile(path, target, options).catch(async (error: unknown) => {
      // Another process was quicker; not every system replaces a file that it has opened since.
      if ((await stat(target).catch(() => null)) === null) throw error;
    });
  }
  return { path: target, isCached: true };
}

/**
 * Does something with the converted model of `path`; where that shows that the cache holds a damaged one, once more with
 * one that is made anew.
 * @throws SkeinError as `prepareModel`, and what `use` throws
 */
export async function withConverted<T>(
  path: string,
  folder: string,
  options: ConvertFileOptions,
  use: (converted: string) => Promise<T>,
): Promise<T> {
  const prepared = await prepareModel(path, folder, options);
  try {
    return await use(prepared.path);
  } catch (error) {
    const isDamaged = error instanceof SkeinError && error.code === "invalid_model_file";
    if (!isDamaged || !prepared.isCached) throw error;
    await rm(prepared.path, { force: true });
    return use((await prepareModel(path, folder, options)).path);
  }
}

/** Kinds of models that can be converted: a GGUF file (or several), or a folder of Hugging Face. */
type SourceKind = "gguf" | "folder";

const beginnings: Readonly<Record<string, "gguf" | "skein">> = { GGUF: "gguf", SKEI: "skein" };

/**
 * What is only looked at is not converted on the way.
 * @throws SkeinError `invalid_model_file` for what first has to be converted
 */
export async function requireConverted(path: string): Promise<void> {
  // What is no model at all is refused, with what it lacks, when it is read.
  const kind = await kindOf(path).catch(() => "skein");
  if (kind === "skein") return;
  const what = kind === "gguf" ? "a GGUF file" : "a folder";
  throw invalidModelFile(path, `is ${what}, not a converted model`, "`skein exact convert` it first.");
}

/** Told by what it begins with. @throws SkeinError `invalid_model_file` */
async function kindOf(path: string): Promise<SourceKind | "skein"> {
  if ((await stat(path).catch(() => null))?.isDirectory() === true) return "folder";
  const source = await openFileSource(path);
  try {
    const start = await source.read(0, Math.min(4, source.size), new AbortController().signal);
    const kind = beginnings[new TextDecoder("latin1").decode(start)];
    if (kind !== undefined) return kind;
  } finally {
    await source.close();
  }
  throw invalidModelFile(
    path,
    "is neither a GGUF file nor a converted model",
    "Give a .gguf file, a folder from Hugging Face, or a .skein file made by `skein exact convert`.",
  );
}

async function filesOf(path: string): Promise<{ kind: SourceKind; paths: readonly string[] }> {
  const kind = await kindOf(path);
  if (kind === "skein") throw invalidModelFile(path, "is converted already", "Use it as it is.");
  if (kind === "gguf") return { kind, paths: (await readGgufHeader(path)).paths };
  const names = (await readdir(path)).filter(isHuggingFaceFile);
  return { kind, paths: names.toSorted().map((name) => join(path, name)) };
}

/** Whatever name or link leads there: the only copy of a model must not be replaced by what was made of it. */
async function checkIsNoSource(target: string, paths: readonly string[]): Promise<void> {
  const existing = await stat(target, { bigint: true }).catch(() => null);
  if (existing === null) return;
  for (const path of paths) {
    const { dev, ino } = await stat(path, { bigint: true });
    if (dev !== existing.dev || ino !== existing.ino) continue;
    throw new SkeinError("invalid_config", `${target} is a file of the model that is to be converted.`, {
      hint: "Give the converted model another name.",
    });
  }
}
