/** The GPU's kernel beside the WebAssembly one and the reference. */
import { portableSha256 } from "../../../src/exact/commitment/portable-sha256.ts";
import { openContainer, readContainer } from "../../../src/exact/container/container.ts";
import type { Matrix, RowMatrix } from "../../../src/exact/model/model.ts";
import type { Block } from "../../../src/exact/ops/integers.ts";
import { linear } from "../../../src/exact/ops/operations.ts";
import { type Dice, diceOfSeed } from "../../../src/exact/random-model.suite.ts";
import { KernelMemory } from "../../../src/exact/wasm/kernels.ts";
import { placeMatrix } from "../../../src/exact/wasm/place-model.ts";
import { kernelTables } from "../../../src/exact/wasm/tables.ts";
import { scratchBytes } from "../../../src/exact/wasm/workspace.ts";
import { createGpuLinear, type GpuLinear, openGpu } from "../../../src/exact/webgpu/linear.ts";
import { memorySource } from "../../../src/formats/byte-source.ts";

export interface GpuComparison {
  /** What the browser tells of the device. */
  readonly adapter: string;
  readonly matrices: number;
  readonly values: number;
  /** Values within the bounds of their format, not at them: others would hide wrong sums. */
  readonly unsaturated: number;
  /** Descriptions of the first matrices with a difference. */
  readonly different: readonly string[];
}

interface Case {
  readonly name: string;
  readonly matrix: RowMatrix;
  readonly blocks: readonly Block[];
  readonly fraction: number;
  readonly bits: number;
}

const randomCases = 150;
const mantissaMax: number = 2 ** 13 - 1;

export async function compareOnGpu(seed: number, container: Uint8Array): Promise<GpuComparison | null> {
  const device = await openGpu(navigator.gpu);
  if (device === null) return null;
  const { vendor, architecture, description } = device.adapterInfo;
  const gpu = await createGpuLinear(device);
  const dice = diceOfSeed(seed);
  const sum = { matrices: 0, values: 0, unsaturated: 0 };
  const different: string[] = [];
  const add = async (one: Case): Promise<void> => {
    const { values, unsaturated, differs } = await compare(gpu, one);
    sum.matrices += 1;
    sum.values += values;
    sum.unsaturated += unsaturated;
    if (differs !== null && different.length < 5) different.push(`${one.name}: ${differs}`);
  };
  for (let i = 0; i < randomCases; i++) await add(randomCase(dice, i));
  await forMatrices(container, async (name, matrix) => {
    const blocks = Array.from({ length: 2 }, () => randomBlock(dice, matrix.columns, -20));
    await add({ name, matrix, blocks, fraction: 16, bits: 31 });
  });
  device.destroy();
  return { adapter: [vendor, architecture, description].filter(Boolean).join(" "), ...sum, different };
}

async function compare(
  gpu: GpuLinear,
  { matrix, blocks, fraction, bits }: Case,
): Promise<{ values: number; unsaturated: number; differs: string | null }> {
  const placed = await gpu.place(matrix);
  const results = await gpu.run(placed, blocks, fraction, bits);
  placed.free();
  const others = inWasm(matrix, blocks, fraction, bits);
  let unsaturated = 0;
  let differs: string | null = null;
  for (const [token, block] of blocks.entries()) {
    for (const [row, value] of linear(matrix, block, fraction, bits).entries()) {
      const own = results[token]![row];
      const other = others[token]![row];
      if (Math.abs(value) < 2 ** bits - 1 && value !== 0) unsaturated += 1;
      if (own !== value || other !== value) {
        differs ??= `row ${row} of block ${token} is ${own} on the GPU, ${other} in WebAssembly, ${value} by the reference`;
      }
    }
  }
  return { values: blocks.length * matrix.rows, unsaturated, differs };
}

function inWasm(matrix: RowMatrix, blocks: readonly Block[], fraction: number, bits: number): Int32Array[] {
  const { rows, columns } = matrix;
  const memory = new KernelMemory({ shared: false, tables: kernelTables });
  const [slice] = placeMatrix(memory, matrix, 1).slices;
  const x = memory.allocate(2 * columns * blocks.length);
  for (const [i, { mantissas }] of blocks.entries()) {
    new Int16Array(memory.buffer, x + 2 * columns * i, columns).set(mantissas);
  }
  const exponents = memory.place(Int32Array.from(blocks, ({ exponent }) => exponent));
  const y = memory.allocate(4 * rows * blocks.length);
  const scratch = memory.allocate(scratchBytes(blocks.length));
  memory.kernels.matmul(
    slice!.record,
    x,
    exponents,
    blocks.length,
    y,
    rows,
    fraction,
    2 ** bits - 1,
    scratch,
  );
  return blocks.map((_, i) => memory.integers(y + 4 * rows * i, rows).slice());
}

/** Sizes that the kernel treats differently: rows that fill no tile, columns that fill no or many rounds of lanes. */
function randomCase(dice: Dice, index: number): Case {
  const isLong = index % 25 === 0;
  const isTall = index === 1;
  // More rows than there are workgroups in one turn.
  const rows = isTall ? 4 * 4_096 + 5 : isLong ? dice.pick([1, 5]) : dice.pick([1, 2, 3, 4, 5, 8, 33, 130]);
  const columns = isTall ? 16 : isLong ? 65_536 : 16 * dice.pick([1, 2, 3, 31, 32, 33, 64, 100]);
  const isFull = isLong || dice.chance(0.2);
  const weight = (): number => (isFull ? 127 : dice.whole(-127, 127));
  const sign = dice.pick([-1, 1]);
  const bits = dice.pick([26, 31]);
  const fraction = dice.pick([12, 14, 16]);
  const spread = dice.pick([2, 60]);
  const hasBias = dice.chance(0.4);
  const biasMax = dice.pick([2 ** 16, 2 ** 26 - 1]);
  const block = (): Block =>
    isFull
      ? { mantissas: new Int16Array(columns).fill(sign * mantissaMax), exponent: -14 }
      : randomBlock(dice, columns, dice.whole(-16, -10));
  return {
    name: `random matrix ${index} (${rows} × ${columns})`,
    matrix: {
      format: "int8-row",
      rows,
      columns,
      weights: Int8Array.from({ length: rows * columns }, weight),
      multipliers: Int16Array.from({ length: rows }, () =>
        dice.pick([2 ** 14, 2 ** 15 - 1, dice.whole(2 ** 14, 2 ** 15 - 1)]),
      ),
      exponents: Int8Array.from({ length: rows }, () => -22 + dice.whole(-spread, spread)),
      bias: hasBias ? Int32Array.from({ length: rows }, () => dice.whole(-biasMax, biasMax)) : null,
    },
    blocks: Array.from({ length: isTall || isLong ? 1 : dice.whole(1, 5) }, block),
    fraction,
    bits,
  };
}

function randomBlock(dice: Dice, columns: number, exponent: number): Block {
  const max = dice.pick([1, 100, mantissaMax]);
  return { mantissas: Int16Array.from({ length: columns }, () => dice.whole(-max, max)), exponent };
}

async function forMatrices(
  container: Uint8Array,
  use: (name: string, matrix: RowMatrix) => Promise<void>,
): Promise<void> {
  const { signal } = new AbortController();
  const source = memorySource("model.skein", container);
  const info = await openContainer(source, portableSha256, signal);
  const sink = {
    norm: () => undefined,
    matrix: (tensor: { readonly kind: string }, matrix: Matrix) =>
      matrix.format === "int8-row" ? use(tensor.kind, matrix) : Promise.resolve(),
  };
  await readContainer(source, info, portableSha256, sink, { signal });
}
