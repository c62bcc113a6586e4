/** Converted models on this machine, by identity. Only headers are read. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { openContainer } from "../../exact/container/container.ts";
import { openFileSource } from "../../engine/file-source.ts";
import { sha256 } from "../../engine/sha256.ts";

export interface ModelPlaces {
  /** Converted models. */
  readonly files: readonly string[];
  /** Where others are looked for; null: nowhere. */
  readonly folder: string | null;
}

/** More in one folder are not looked at. */
const filesMax = 1_000;

export class ModelFiles {
  readonly #places: ModelPlaces;
  /** By path; null: no model. */
  readonly #known = new Map<string, string | null>();

  constructor(places: ModelPlaces) {
    this.#places = places;
  }

  /** Identities that were found so far. */
  get modelIds(): readonly string[] {
    return [...this.#known.values()].filter((id) => id !== null);
  }

  /** Looks for files that were not there before. */
  async look(): Promise<void> {
    const { files, folder } = this.#places;
    const names = folder === null ? [] : await readdir(folder).catch(() => []);
    const inFolder = names.filter((name) => name.endsWith(".skein")).map((name) => join(folder!, name));
    for (const path of [...files, ...inFolder].slice(0, filesMax)) {
      if (!this.#known.has(path)) this.#known.set(path, await modelIdOf(path));
    }
  }

  pathOf(modelId: string): string | null {
    return [...this.#known].find(([, id]) => id === modelId)?.[0] ?? null;
  }
}

async function modelIdOf(path: string): Promise<string | null> {
  try {
    const source = await openFileSource(path);
    try {
      return (await openContainer(source, sha256, new AbortController().signal)).modelId;
    } finally {
      await source.close();
    }
  } catch {
    return null;
  }
}
