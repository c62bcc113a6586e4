/**
 * Tensors of a file on their way into the kernels' memory: in pieces that stay in a processor's cache while they are read, hashed and placed,
 * each by whichever thread comes first. A piece is a subtree of its tensor's tree (model/weight-root.ts): from the roots of the pieces follows the tensor's.
 */
import { chunkTag, hashBytes, nodeTag, weightChunkBytes as chunkBytes } from "../commitment/tags.ts";
import type { Kernels, SharedKernels } from "./kernels.ts";
import type { Section } from "./weights.ts";

/** What is needed of the kernels and their memory. Little, so that a thread that only helps to load has little to load itself. */
export interface PieceSpace {
  readonly kernels: Kernels;
  readonly hashWords: number;
  bytes(address: number, length: number): Uint8Array;
  integers(address: number, count: number): Int32Array;
}

/** Of `hashEach`. */
const hashScratchBytes = 3_712;
/** A power of two of chunks; with its hashes half of a small second-level cache. */
const pieceBytes = 256 * 1024;
/** Digests are made four at a time. */
const digestRoom: number = 4 * hashBytes;

/** A tensor in a file, and where it goes. */
export interface PouredTensor {
  /** First byte in the file. */
  readonly offset: number;
  readonly bytes: number;
  readonly sections: readonly Section[];
}

/** Plain data, so that threads can be told. */
export interface PourPlan {
  readonly kernels: SharedKernels;
  readonly tensors: readonly PouredTensor[];
  /** Address of the number of the next piece that nobody has taken. */
  readonly next: number;
  /** Address of the roots of all pieces, in order. */
  readonly roots: number;
  /** Address of a byte for each piece: whether it holds a number that no conversion makes. */
  readonly faults: number;
  /** Addresses of what each thread writes alone. */
  readonly own: readonly number[];
}

export interface Piece {
  readonly tensor: PouredTensor;
  readonly index: number;
  /** First byte in the tensor. */
  readonly at: number;
  readonly bytes: number;
}

interface PlanSpace extends PieceSpace {
  allocate(bytes: number): number;
  share(): SharedKernels;
}

export function planPour(memory: PlanSpace, tensors: readonly PouredTensor[], threads: number): PourPlan {
  const count = tensors.reduce((sum, { bytes }) => sum + piecesOf(bytes), 0);
  return {
    next: memory.allocate(4),
    roots: memory.allocate(hashBytes * count),
    faults: memory.allocate(count),
    own: Array.from({ length: threads }, () =>
      memory.allocate(pieceBytes + hashBytes * (pieceBytes / chunkBytes) + digestRoom + hashScratchBytes),
    ),
    kernels: memory.share(),
    tensors,
  };
}

function piecesOf(bytes: number): number {
  return Math.ceil(bytes / pieceBytes);
}

/** One thread's part: takes pieces until there are none. */
export class PiecePourer {
  readonly #memory: PieceSpace;
  readonly #plan: PourPlan;
  readonly #buffer: number;
  readonly #ends: readonly number[];

  constructor(memory: PieceSpace, plan: PourPlan, thread: number) {
    this.#memory = memory;
    this.#plan = plan;
    this.#buffer = plan.own[thread]!;
    let end = 0;
    this.#ends = plan.tensors.map(({ bytes }) => (end += piecesOf(bytes)));
  }

  take(): Piece | null {
    const index = Atomics.add(this.#memory.integers(this.#plan.next, 1), 0, 1);
    const place = this.#ends.findIndex((end) => index < end);
    if (place === -1) return null;
    const tensor = this.#plan.tensors[place]!;
    const at = pieceBytes * (index - (place === 0 ? 0 : this.#ends[place - 1]!));
    return { tensor, index, at, bytes: Math.min(pieceBytes, tensor.bytes - at) };
  }

  /** Where the piece's bytes are to be read to. */
  room({ bytes }: Piece): Uint8Array {
    return this.#memory.bytes(this.#buffer, bytes);
  }

  /** Its bytes are there: hashes and places them. */
  pour({ tensor, index, at, bytes }: Piece): void {
    const { roots, faults } = this.#plan;
    this.#memory.bytes(roots + hashBytes * index, hashBytes).set(this.#rootOf(bytes));
    const isRight = placeBytes(this.#memory, tensor.sections, this.#buffer, at, bytes);
    this.#memory.bytes(faults + index, 1)[0] = isRight ? 0 : 1;
  }

  /** Hashes of chunks, then of pairs of them, level by level; an odd one at the end goes up as it is. */
  #rootOf(bytes: number): Uint8Array {
    const leaves = this.#buffer + pieceBytes;
    const whole = Math.floor(bytes / chunkBytes);
    const rest = bytes % chunkBytes;
    this.#hash(chunkTag, this.#buffer, chunkBytes, whole, leaves);
    if (rest > 0)
      this.#hash(chunkTag, this.#buffer + chunkBytes * whole, rest, 1, leaves + hashBytes * whole);
    let count = whole + (rest > 0 ? 1 : 0);
    for (; count > 1; count = Math.ceil(count / 2)) {
      const odd = this.#memory.bytes(leaves + hashBytes * (count - 1), hashBytes).slice();
      this.#hash(nodeTag, leaves, 2 * hashBytes, Math.floor(count / 2), leaves);
      if (count % 2 === 1) this.#memory.bytes(leaves + hashBytes * ((count - 1) / 2), hashBytes).set(odd);
    }
    return this.#memory.bytes(leaves, hashBytes);
  }

  #hash(tag: number, from: number, length: number, count: number, into: number): void {
    const { kernels, hashWords } = this.#memory;
    const scratch = this.#buffer + pieceBytes + hashBytes * (pieceBytes / chunkBytes) + digestRoom;
    kernels.hashEach(tag, from, length, count, into, hashWords, scratch);
  }
}

/** What the pieces of one tensor gave. */
export interface PouredRoots {
  readonly roots: readonly Uint8Array[];
  readonly hasFaults: boolean;
}

/** Of each tensor, when all pieces are poured. */
export function pouredRoots(memory: PieceSpace, { tensors, roots, faults }: PourPlan): PouredRoots[] {
  let first = 0;
  return tensors.map(({ bytes }) => {
    const count = piecesOf(bytes);
    const own = first;
    first += count;
    return {
      roots: Array.from({ length: count }, (_, i) =>
        memory.bytes(roots + hashBytes * (own + i), hashBytes).slice(),
      ),
      hasFaults: memory.bytes(faults + own, count).includes(1),
    };
  });
}

/**
 * Puts bytes that lie at `from`, and at `at` in their tensor, where they belong. Returns whether their numbers are such as a conversion makes,
 * as far as it has looked: numbers of `plain` sections are looked at by others.
 */
export function placeBytes(
  memory: PieceSpace,
  sections: readonly Section[],
  from: number,
  at: number,
  bytes: number,
): boolean {
  const { kernels } = memory;
  let start = 0;
  let isRight = true;
  for (const section of sections) {
    const begin = Math.max(at, start);
    const length = Math.min(at + bytes, start + section.bytes) - begin;
    const inSection = begin - start;
    start += section.bytes;
    if (length <= 0) continue;
    const source = from + begin - at;
    const { kind, address, columns } = section;
    if (kind === "plain") memory.bytes(address + inSection, length).set(memory.bytes(source, length));
    else if (kind === "groups") kernels.placeGroups(source, length, inSection, columns, address);
    else if (kind === "rows")
      isRight = kernels.placeRows(source, length, inSection, columns, address) === 0 && isRight;
    else isRight = kernels.placeScales(source, length, inSection, columns, address) === 0 && isRight;
  }
  return isRight;
}
