import { invalidModelFile, shown } from "../errors.ts";
import { type GgufScalar, type GgufValue, scalarOf } from "./parse.ts";

/** Typed access to the `<architecture>.*` keys of a file. */
export class GgufKeys {
  readonly #name: string;
  readonly #prefix: string;
  readonly #metadata: ReadonlyMap<string, GgufValue>;

  constructor(name: string, architecture: string, metadata: ReadonlyMap<string, GgufValue>) {
    this.#name = name;
    this.#prefix = `${architecture}.`;
    this.#metadata = metadata;
  }

  has(key: string): boolean {
    return this.#metadata.has(this.#prefix + key);
  }

  /** The scalar under a key; undefined without. Lists stand for values per layer, which no model here has. */
  scalar(key: string): GgufScalar | undefined {
    const value = this.#metadata.get(this.#prefix + key);
    const scalar = scalarOf(value);
    if (value !== undefined && scalar === undefined) throw this.#wrong(key, "a list");
    return scalar;
  }

  natural(key: string, fallback?: number): number {
    const value = this.scalar(key) ?? fallback ?? this.#missing(key);
    const number = typeof value === "bigint" ? Number(value) : value;
    if (typeof number === "number" && Number.isSafeInteger(number) && number >= 0) return number;
    throw this.#wrong(key, shown(String(value)));
  }

  positive(key: string, fallback?: number): number {
    const number = this.natural(key, fallback);
    if (number > 0) return number;
    throw this.#wrong(key, "0");
  }

  real(key: string, fallback?: number): number {
    const value = this.scalar(key) ?? fallback ?? this.#missing(key);
    const number = typeof value === "bigint" ? Number(value) : value;
    if (typeof number === "number" && Number.isFinite(number)) return number;
    throw this.#wrong(key, shown(String(value)));
  }

  text(key: string, fallback: string): string {
    const value = this.scalar(key) ?? fallback;
    if (typeof value === "string") return value;
    throw this.#wrong(key, shown(String(value)));
  }

  #missing(key: string): never {
    throw invalidModelFile(this.#name, `lacks the key ${this.#prefix}${key}`);
  }

  #wrong(key: string, found: string): Error {
    return invalidModelFile(this.#name, `has ${found} under the key ${this.#prefix}${key}`);
  }
}
