/** The compiled kernels and the memory they work in. */
import { SkeinError } from "../../util/errors.ts";
import { kernelsBase64 } from "./kernels.wasm.ts";

/** Addresses and sizes are bytes in the module's memory, or counts; 64-bit values are bigints. */
export interface Kernels {
  matmul(...parameters: MatmulParameters): void;
  /** The same for four-bit weights. */
  matmulGrouped(...parameters: MatmulParameters): void;
  addTo(x: number, y: number, length: number): void;
  embed(weights: number, multiplier: number, exponent: number, columns: number, into: number): void;
  normToBlock(
    x: number,
    length: number,
    mantissas: number,
    exponent: number,
    epsilon: bigint,
    root: bigint,
    into: number,
    wide: number,
  ): number;
  normHead(
    x: number,
    length: number,
    mantissas: number,
    exponent: number,
    epsilon: bigint,
    root: bigint,
  ): void;
  toBlock(x: number, length: number, keep: number, into: number): number;
  rotate(x: number, pairs: number, angles: number): void;
  gatedBlock(gate: number, up: number, length: number, sigmoid: number, into: number, wide: number): number;
  attend(
    q: number,
    heads: number,
    queryFraction: number,
    /** Table of page addresses; what follows are offsets in each page. */
    pages: number,
    keys: number,
    keyExponents: number,
    values: number,
    valueExponents: number,
    count: number,
    headDim: number,
    exp2: number,
    scratch: number,
  ): void;
  /** Pieces of a tensor's bytes to where kernels look for them; whether they hold a number that is too small. */
  placeRows(from: number, bytes: number, at: number, columns: number, weights: number): number;
  placeGroups(from: number, bytes: number, at: number, columns: number, weights: number): void;
  placeScales(from: number, bytes: number, at: number, columns: number, scales: number): number;
  /** SHA-256 of many messages of one length. */
  hashEach(
    tag: number,
    from: number,
    length: number,
    count: number,
    into: number,
    constants: number,
    scratch: number,
  ): void;
  keepHead(
    key: number,
    value: number,
    headDim: number,
    shown: number,
    shownExponents: number,
    shownStride: number,
    heads: number,
    pages: number,
    keys: number,
    values: number,
    keyExponents: number,
    valueExponents: number,
    position: number,
  ): void;
}

type MatmulParameters = [
  matrix: number,
  x: number,
  xExponents: number,
  tokens: number,
  y: number,
  yStride: number,
  fraction: number,
  max: number,
  scratch: number,
];

const pageBytes = 65_536;
/** 32-bit addresses reach 4 GiB. */
const pagesMax = 65_536;
const alignmentBytes = 64;

const compiled = new Map<boolean, WebAssembly.Module>();

/** What kernels look numbers up in. */
export interface KernelTables {
  readonly exp2: Int32Array;
  readonly sigmoid: Int32Array;
  /** Constants of SHA-256. */
  readonly hashWords: Int32Array;
}

/** What another thread needs to work in the same memory: that, and where the tables are. */
export type SharedKernels = {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
} & Readonly<Record<keyof KernelTables, number>>;

/** Grows as things are allocated; nothing is given back one by one. */
export class KernelMemory {
  readonly #module: WebAssembly.Module;
  readonly #memory: WebAssembly.Memory;
  #end: number = alignmentBytes;
  readonly kernels: Kernels;
  readonly exp2: number;
  readonly sigmoid: number;
  readonly hashWords: number;

  /** @param from the memory of another thread; else a new one, `shared` with threads or not */
  constructor(from: SharedKernels | { readonly shared: boolean; readonly tables: KernelTables }) {
    this.#memory =
      "memory" in from
        ? from.memory
        : new WebAssembly.Memory({ initial: 16, maximum: pagesMax, shared: from.shared });
    this.#module = "memory" in from ? from.module : kernelModule(from.shared);
    const instance = new WebAssembly.Instance(this.#module, { env: { memory: this.#memory } });
    this.kernels = instance.exports as unknown as Kernels;
    const addressOf = (table: keyof KernelTables): number =>
      "memory" in from ? from[table] : this.place(from.tables[table]);
    this.exp2 = addressOf("exp2");
    this.sigmoid = addressOf("sigmoid");
    this.hashWords = addressOf("hashWords");
  }

  share(): SharedKernels {
    const { exp2, sigmoid, hashWords } = this;
    return { module: this.#module, memory: this.#memory, exp2, sigmoid, hashWords };
  }

  get usedBytes(): number {
    return this.#end;
  }

  /** The memory as it is now; growing it makes earlier views useless. */
  get buffer(): ArrayBufferLike {
    return this.#memory.buffer;
  }

  /** Address of `bytes` zeros. @throws SkeinError `overloaded` when 4 GiB or the machine's memory are used up */
  allocate(bytes: number): number {
    const address = this.#end;
    const end = Math.ceil((address + bytes) / alignmentBytes) * alignmentBytes;
    const missing = Math.ceil((end - this.buffer.byteLength) / pageBytes);
    if (missing > 0) this.#grow(missing, bytes);
    this.#end = end;
    return address;
  }

  #grow(pages: number, bytes: number): void {
    // In larger steps, as far as possible: each one may move everything.
    const current = this.buffer.byteLength / pageBytes;
    for (const step of [Math.max(pages, Math.ceil(current / 8)), pages]) {
      try {
        this.#memory.grow(step);
        return;
      } catch {
        // The smaller step may still do.
      }
    }
    throw new SkeinError("overloaded", `There is no memory for another ${Math.ceil(bytes / 1e6)} MB.`, {
      hint: "One exact model and its contexts fit in 4 GiB. Use a smaller model or context, or split it over several stages.",
    });
  }

  place(values: Uint8Array | Int8Array | Int16Array | Int32Array): number {
    const address = this.allocate(values.byteLength);
    new Uint8Array(this.buffer).set(
      new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
      address,
    );
    return address;
  }

  bytes(address: number, length: number): Uint8Array {
    return new Uint8Array(this.buffer, address, length);
  }

  integers(address: number, count: number): Int32Array {
    return new Int32Array(this.buffer, address, count);
  }
}

/** One set of kernels for both kinds of memory: whether it is shared is one bit of the import. */
function kernelModule(isShared: boolean): WebAssembly.Module {
  let module = compiled.get(isShared);
  if (module !== undefined) return module;
  const bytes = bytesOfBase64(kernelsBase64);
  if (isShared) bytes[importedMemoryFlags(bytes)]! |= sharedFlag;
  module = new WebAssembly.Module(bytes);
  compiled.set(isShared, module);
  return module;
}

/** Of the limits of a memory in WebAssembly's binary format. */
const sharedFlag = 0x02;

/** Where the flags of the import `env.memory` are: behind its names and the byte that says "memory". */
function importedMemoryFlags(bytes: Uint8Array): number {
  const name = "\u0003env\u0006memory\u0002";
  for (let at = 0; at + name.length < bytes.length; at++) {
    if (Array.from(name).every((character, i) => bytes[at + i] === character.charCodeAt(0)))
      return at + name.length;
  }
  throw new Error("the kernels import no memory");
}

function bytesOfBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
