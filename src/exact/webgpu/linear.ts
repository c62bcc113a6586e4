/** Matrices times blocks of activations on a GPU, with the bits of `linear` in ops/operations.ts. */
import { SkeinError } from "../../util/errors.ts";
import type { RowMatrix } from "../model/model.ts";
import type { Block } from "../ops/integers.ts";
import { linearShader, tileRows } from "./shader.ts";

/** Enough to fill any device, and fewer than every device takes; more rows go round in turns. */
const workgroupsMax = 4_096;
const paramsBytes = 16;
/** `GPUBufferUsage` and `GPUMapMode` of the WebGPU specification, for which TypeScript has no declarations yet. */
const usages = { mapRead: 0x01, copyFrom: 0x04, copyTo: 0x08, uniform: 0x40, storage: 0x80 } as const;
const mapForReading = 0x01;

export interface GpuMatrix {
  readonly rows: number;
  readonly columns: number;
  readonly weights: GPUBuffer;
  readonly factors: GPUBuffer;
  free(): void;
}

export interface GpuLinear {
  /** @throws SkeinError `overloaded` when it does not fit into the device's memory or one of its buffers */
  place(matrix: RowMatrix): Promise<GpuMatrix>;
  /** For each block, one value a row with `fraction` fractional bits, within ±(2^bits − 1). At least one block. */
  run(matrix: GpuMatrix, blocks: readonly Block[], fraction: number, bits: number): Promise<Int32Array[]>;
}

/** A device with buffers as large as it has; null where there is none. */
export async function openGpu(gpu: GPU | undefined): Promise<GPUDevice | null> {
  const adapter = (await gpu?.requestAdapter({ powerPreference: "high-performance" })) ?? null;
  if (adapter === null) return null;
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  return adapter.requestDevice({ requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } });
}

/** @throws SkeinError `engine_unavailable` where the device does not take the shader */
export async function createGpuLinear(device: GPUDevice): Promise<GpuLinear> {
  const module = device.createShaderModule({ code: linearShader });
  const pipeline = await device
    .createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint: "linear" } })
    .catch((error: unknown) => {
      throw new SkeinError("engine_unavailable", `The GPU does not take the kernel: ${String(error)}.`, {
        hint: "Update the browser or the graphics driver, or run without the GPU.",
        cause: error,
      });
    });
  return {
    place: (matrix) => placeMatrix(device, matrix),
    run: (matrix, blocks, fraction, bits) =>
      multiply(device, pipeline, matrix, blocks, fraction, 2 ** bits - 1),
  };
}

async function placeMatrix(device: GPUDevice, matrix: RowMatrix): Promise<GpuMatrix> {
  const { rows, columns, multipliers, exponents, bias } = matrix;
  const factors = new Int32Array(4 * rows);
  for (let row = 0; row < rows; row++) {
    factors.set([multipliers[row]!, exponents[row]!, bias?.[row] ?? 0], 4 * row);
  }
  device.pushErrorScope("validation");
  device.pushErrorScope("out-of-memory");
  const buffers = [place(device, matrix.weights), place(device, factors)] as const;
  const problems = await Promise.all([device.popErrorScope(), device.popErrorScope()]);
  const problem = problems[0] ?? problems[1]!;
  const free = (): void => {
    for (const buffer of buffers) buffer.destroy();
  };
  if (problem === null) return { rows, columns, weights: buffers[0], factors: buffers[1], free };
  free();
  throw new SkeinError("overloaded", `The GPU has no room for ${rows} × ${columns} weights.`, {
    hint: "Use a smaller model, or split it over several stages.",
    cause: problem,
  });
}

async function multiply(
  device: GPUDevice,
  pipeline: GPUComputePipeline,
  matrix: GpuMatrix,
  blocks: readonly Block[],
  fraction: number,
  max: number,
): Promise<Int32Array[]> {
  const { rows, columns } = matrix;
  // 1. What goes in, and room for what comes out.
  const mantissas = new Int16Array(blocks.length * columns);
  for (const [i, block] of blocks.entries()) mantissas.set(block.mantissas, i * columns);
  const params = device.createBuffer({
    size: paramsBytes,
    usage: usages.uniform | usages.copyTo,
  });
  device.queue.writeBuffer(params, 0, Int32Array.of(rows, columns / 16, fraction, max));
  const inputs = [
    place(device, mantissas),
    place(
      device,
      Int32Array.from(blocks, ({ exponent }) => exponent),
    ),
  ];
  const size = 4 * rows * blocks.length;
  const results = device.createBuffer({ size, usage: usages.storage | usages.copyFrom });
  const readable = device.createBuffer({ size, usage: usages.mapRead | usages.copyTo });
  // 2. The kernel.
  const bound = [params, matrix.weights, matrix.factors, ...inputs, results];
  const commands = device.createCommandEncoder();
  const pass = commands.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(
    0,
    device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: bound.map((buffer, binding) => ({ binding, resource: { buffer } })),
    }),
  );
  pass.dispatchWorkgroups(Math.min(Math.ceil(rows / tileRows), workgroupsMax), blocks.length);
  pass.end();
  commands.copyBufferToBuffer(results, 0, readable, 0, size);
  device.queue.submit([commands.finish()]);
  // 3. Its results.
  try {
    await readable.mapAsync(mapForReading);
    const all = new Int32Array(readable.getMappedRange().slice(0));
    return blocks.map((_, i) => all.slice(i * rows, (i + 1) * rows));
  } finally {
    for (const buffer of [params, ...inputs, results, readable]) buffer.destroy();
  }
}

/** WebGPU's numbers are little-endian, as are those of every machine that has it. All sizes are multiples of four bytes. */
function place(device: GPUDevice, values: Int8Array | Int16Array | Int32Array): GPUBuffer {
  const usage = usages.storage | usages.copyTo;
  const buffer = device.createBuffer({ size: values.byteLength, usage });
  device.queue.writeBuffer(buffer, 0, values);
  return buffer;
}
