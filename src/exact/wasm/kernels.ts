/** The compiled kernels and the memory they work in. */
import { SkeinError } from "../../util/errors.ts";
import { exp2Table, sigmoidTable } from "../ops/tables.ts";
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

/** What another thread needs to work in the same memory. */
export interface SharedKernels {
  readonly memory: WebAssembly.Memory;
  readonly exp2: number;
  readonly sigmoid: number;
}

/** Grows as things are allocated; nothing is given back one by one. */
export class KernelMemory {
  readonly #memory: WebAssembly.Memory;
  #end: number = alignmentBytes;
  readonly kernels: Kernels;
  readonly exp2: number;
  readonly sigmoid: number;

  /** @param from the memory of another thread; else a new one, `shared` with threads or not */
  constructor(from: SharedKernels | { readonly shared: boolean }) {
    this.#memory =
      "memory" in from
        ? from.memory
        : new WebAssembly.Memory({ initial: 16, maximum: pagesMax, shared: from.shared });
    const isShared = "memory" in from || from.shared;
    const instance = new WebAssembly.Instance(kernelModule(isShared), { env: { memory: this.#memory } });
    this.kernels = instance.exports as unknown as Kernels;
    this.exp2 = "memory" in from ? from.exp2 : this.place(exp2Table);
    this.sigmoid = "memory" in from ? from.sigmoid : this.place(sigmoidTable);
  }

  share(): SharedKernels {
    return { memory: this.#memory, exp2: this.exp2, sigmoid: this.sigmoid };
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
