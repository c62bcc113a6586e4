/**
 * From a container into the kernels' memory: reads, hashes and places its weights piece by piece, on as many threads as come. Nothing is computed
 * with a tensor before its bytes were found to be what its hash says.
 */
import type { TensorRef } from "../../formats/model-source.ts";
import type { ByteSource } from "../../formats/byte-source.ts";
import { equalBytes } from "../../util/bytes.ts";
import { merkleRoot, type Sha256 } from "../commitment/commitment.ts";
import { type ContainerHeader, damagedTensor, impossibleNumbers } from "../container/container.ts";
import { isInRange, tensorsOf } from "../model/sink.ts";
import { areRowsInRange, isNormInRange, tensorExtent } from "../model/weight-bytes.ts";
import {
  executorOf,
  type ExecutorSetup,
  prepare,
  type WasmExecutor,
  type WasmExecutorOptions,
} from "./executor.ts";
import type { KernelMemory } from "./kernels.ts";
import { PiecePourer, planPour, pouredRoots, type PourPlan } from "./pieces.ts";
import { allocateTensor, type AllocatedTensor, sectionsOf } from "./weights.ts";

/** Some tens of milliseconds. */
const piecesPerTurn = 64;

/** Threads that help to load; each makes a `PiecePourer` with its number, from 1 on. */
export interface LoadHelpers {
  readonly count: number;
  /** Resolves when all of them have found no more pieces; rejects when one has failed. */
  help(plan: PourPlan): Promise<void>;
}

export interface LoadOptions {
  readonly executor: WasmExecutorOptions;
  readonly signal: AbortSignal;
  /** Default: none; this thread loads alone. */
  readonly helpers?: LoadHelpers;
}

/**
 * Reading begins before it returns; what the caller does next is done beside the helpers.
 * @throws SkeinError `invalid_model_file`, `overloaded` when there is no memory, `cancelled`
 */
export async function loadWasmExecutor(
  source: ByteSource,
  info: ContainerHeader,
  sha256: Sha256,
  { executor: options, signal, helpers }: LoadOptions,
): Promise<WasmExecutor> {
  // 1. Memory for everything, so that it does not grow while others work in it.
  const { shape } = info.manifest;
  const setup = prepare(shape, options, helpers !== undefined);
  const tensors = allocateAll(setup, info);
  const poured = tensors.map(({ offset, bytes, placed }) => ({
    offset,
    bytes,
    sections: sectionsOf(placed),
  }));
  const plan = planPour(setup.memory, poured, 1 + (helpers?.count ?? 0));
  // 2. Everybody takes pieces.
  const helping = helpers?.help(plan);
  const own = pourAll(source, setup.memory, plan, signal);
  await Promise.all([own, helping]);
  // 3. Whether they are what the hashes say, and what arithmetic allows.
  for (const [i, { roots, hasFaults }] of pouredRoots(setup.memory, plan).entries()) {
    const { tensor, root, placed } = tensors[i]!;
    if (!equalBytes(merkleRoot(sha256, roots), root)) throw damagedTensor(source.name, tensor);
    if (hasFaults || !isInRangeAt(setup.memory, placed)) throw impossibleNumbers(source.name);
  }
  return executorOf(
    setup,
    tensors.map(({ tensor, placed }) => [tensor, placed]),
  );
}

interface Tensor {
  readonly tensor: TensorRef;
  readonly root: Uint8Array;
  readonly offset: number;
  readonly bytes: number;
  readonly placed: AllocatedTensor;
}

function allocateAll({ memory, shape, range, threads }: ExecutorSetup, info: ContainerHeader): Tensor[] {
  return tensorsOf(shape).flatMap((tensor, index) => {
    if (!isInRange(tensor, shape, range)) return [];
    const extent = tensorExtent(shape, info.manifest.quantization, tensor.kind);
    return {
      tensor,
      root: info.tensorRoots[index]!,
      offset: info.offsets[index]!,
      bytes: extent.bytes,
      placed: allocateTensor(memory, extent, threads),
    };
  });
}

async function pourAll(
  source: ByteSource,
  memory: KernelMemory,
  plan: PourPlan,
  signal: AbortSignal,
): Promise<void> {
  const pourer = new PiecePourer(memory, plan, 0);
  for (let piece = pourer.take(), count = 1; piece !== null; piece = pourer.take(), count++) {
    // Who cancels is heard.
    if (count % piecesPerTurn === 0) await new Promise((resolve) => setTimeout(resolve));
    await source.readInto(piece.tensor.offset + piece.at, pourer.room(piece), signal);
    pourer.pour(piece);
  }
}

/** What was looked at while it was placed is left out. */
function isInRangeAt(memory: KernelMemory, placed: AllocatedTensor): boolean {
  if (placed.isNorm) return isNormInRange({ mantissas: memory.integers(placed.mantissas, placed.columns) });
  const { format, rows, multipliers, bias } = placed;
  return areRowsInRange({
    format,
    multipliers: new Int16Array(memory.buffer, multipliers, rows),
    bias: bias === 0 ? null : memory.integers(bias, rows),
  });
}
