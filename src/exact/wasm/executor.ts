/** The quick executor: WebAssembly SIMD kernels, many rows at a time, on one or more threads. Same bits as the reference. */
import { layerLeafLength } from "../commitment/leaf.ts";
import type { LayerListener, PagedExecutor, StepRow } from "../executor.ts";
import type { ExactShape, LayerRange, NormWeights } from "../model/model.ts";
import type { ModelSink } from "../model/sink.ts";
import { checkCount, checkRange, checkStep } from "../step-checks.ts";
import { KernelMemory } from "./kernels.ts";
import type { ProgramRow } from "./program.ts";
import { noPages, pageLayout, PagePool, pagesFor } from "./pages.ts";
import { Sequences, type WasmSequence } from "./sequences.ts";
import { controlBytes, meetTimeoutMsDefault, type StartThreads, Team, type TeamMember } from "./team.ts";
import { placeModel } from "./place-model.ts";
import { kernelTables } from "./tables.ts";
import { type AllocatedTensors, firstOfRow, placedModel, type PlacedModel } from "./weights.ts";
import { placeAngles, placeWorkspace, residualAt, type Workspace } from "./workspace.ts";

export interface WasmExecutorOptions {
  /** Default: the whole model. */
  readonly range?: LayerRange;
  /** Positions a sequence may have; default: the model's. */
  readonly contextTokensMax?: number;
  /** Positions of all sequences together, in whole pages; their memory is taken at once. Default: as they come, while there is memory. */
  readonly cacheTokensMax?: number;
  /** Rows of a step; default 64, where reading weights is spread over enough tokens. */
  readonly rowsMax?: number;
  /** How many threads share the work, this one included, and how the others are started. Default: this one alone. */
  readonly threads?: {
    readonly count: number;
    readonly start: StartThreads;
    /** How long threads wait for one another. */
    readonly meetTimeoutMs?: number;
  };
}

const rowsMaxDefault = 64;

export interface WasmExecutor extends PagedExecutor {
  /** Whether all threads have come; a step before waits for them, but not for long. */
  isReady(): boolean;
  /** Ends the other threads; the executor must not be used any more. Idempotent. */
  close(): void;
}

/** Give the model to `sink`, then call `executor()` once. */
export function createWasmExecutor(
  shape: ExactShape,
  options: WasmExecutorOptions = {},
): { readonly sink: ModelSink; readonly executor: () => WasmExecutor } {
  const setup = prepare(shape, options, false);
  const placing = placeModel(setup);
  return { sink: placing.sink, executor: () => executorOf(setup, placing.tensors) };
}

/** Memory for a model that comes. */
export interface ExecutorSetup {
  readonly memory: KernelMemory;
  readonly shape: ExactShape;
  readonly range: LayerRange;
  readonly threads: number;
  readonly options: WasmExecutorOptions;
}

/** @param isShared whether others work in its memory before threads compute in it */
export function prepare(shape: ExactShape, options: WasmExecutorOptions, isShared: boolean): ExecutorSetup {
  const range = options.range ?? { start: 0, end: shape.layers };
  checkRange(shape, range);
  checkCount("The context", options.contextTokensMax ?? 1, 1);
  checkCount("The number of rows", options.rowsMax ?? 1, 1);
  checkCount("The number of positions", options.cacheTokensMax ?? 1, 1);
  const threads = options.threads?.count ?? 1;
  const memory = new KernelMemory({ shared: isShared || threads > 1, tables: kernelTables });
  return { memory, shape, range, threads, options };
}

/** When the numbers of all tensors are in memory. */
export function executorOf(setup: ExecutorSetup, tensors: AllocatedTensors): WasmExecutor {
  const { memory, shape, range, options } = setup;
  return new TeamExecutor(memory, { shape, range, model: placedModel(memory, tensors, range), options });
}

interface Parts {
  readonly shape: ExactShape;
  readonly range: LayerRange;
  readonly model: PlacedModel;
  readonly options: WasmExecutorOptions;
}

class TeamExecutor implements WasmExecutor {
  readonly shape: ExactShape;
  readonly range: LayerRange;
  readonly contextTokensMax: number;
  readonly rowsMax: number;
  readonly #memory: KernelMemory;
  readonly #model: PlacedModel;
  readonly #pool: PagePool;
  readonly #sequences: Sequences;
  readonly #space: Workspace;
  readonly #team: Team;
  readonly #endThreads: () => void;

  constructor(memory: KernelMemory, { shape, range, model, options }: Parts) {
    this.shape = shape;
    this.range = range;
    this.contextTokensMax = Math.min(
      shape.contextTokensMax,
      options.contextTokensMax ?? shape.contextTokensMax,
    );
    this.rowsMax = options.rowsMax ?? rowsMaxDefault;
    const threads = options.threads?.count ?? 1;
    const pages = pageLayout(shape, range.end - range.start);
    const pagesMax = options.cacheTokensMax === undefined ? null : pagesFor(options.cacheTokensMax);
    this.#memory = memory;
    this.#model = model;
    this.#pool = new PagePool(memory, pages, pagesMax);
    this.#sequences = new Sequences(memory, this.#pool, this.contextTokensMax);
    this.#space = placeWorkspace(memory, shape, this.rowsMax, this.contextTokensMax, threads);
    const control = memory.allocate(controlBytes(this.rowsMax));
    const setup = { shape, model, space: this.#space, pages, threads };
    const meetTimeoutMs = options.threads?.meetTimeoutMs ?? meetTimeoutMsDefault;
    const members = Array.from({ length: threads }, (_, thread): TeamMember => {
      return { kernels: memory.share(), setup, control, rowsMax: this.rowsMax, thread, meetTimeoutMs };
    });
    this.#team = new Team(members[0]!, memory);
    this.#endThreads = threads > 1 ? options.threads!.start(members.slice(1)) : () => undefined;
  }

  newSequence(): WasmSequence {
    return this.#sequences.take(this);
  }

  outputNorm(): NormWeights | null {
    const { outputNorm } = this.#model;
    if (outputNorm === undefined) return null;
    const { mantissas, exponent } = outputNorm;
    return { mantissas: copyOf(this.#memory.integers(mantissas, this.shape.dim)), exponent };
  }

  freePages(): number {
    return this.#pool.free;
  }

  isReady(): boolean {
    return this.#team.isComplete();
  }

  close(): void {
    this.#endThreads();
  }

  step(rows: readonly StepRow[], onLayer?: LayerListener): (Int32Array | null)[] {
    checkStep(this, rows);
    const { layers, dim } = this.shape;
    const isLast = this.range.end === layers;
    // 1. Where each row belongs, and what it begins with.
    const placed = this.#place(rows);
    this.#load(rows);
    if (this.range.start === 0 && onLayer !== undefined) this.#tell(rows.length, 0, onLayer);
    // 2. All layers, then logits for those who want them.
    const wanted = rows.flatMap((row, index) => (isLast && row.wantsLogits ? [index] : []));
    const outputs = rows.map((): Int32Array | null => null);
    const on = {
      layer: (layer: number): void => {
        if (onLayer !== undefined) this.#tell(rows.length, this.range.start + layer + 1, onLayer);
      },
      logits: (some: readonly number[]): void => {
        const { vocabularySize } = this.shape;
        for (const [i, row] of some.entries()) {
          const at = this.#space.logits + 4 * vocabularySize * i;
          outputs[row] = copyOf(this.#memory.integers(at, vocabularySize));
        }
      },
    };
    this.#team.step(placed, wanted, on, this.range.end - this.range.start);
    // 3. Only now the positions count.
    for (const [i, { sequence }] of rows.entries())
      (sequence as WasmSequence).length = placed[i]!.position + 1;
    if (isLast) return outputs;
    return rows.map((_, row) => copyOf(this.#memory.integers(residualAt(this.#space, row), dim)));
  }

  /** Positions of rows, memory for them, and the angles of these positions. @throws SkeinError `overloaded` */
  #place(rows: readonly StepRow[]): ProgramRow[] {
    const added = new Map<WasmSequence, number>();
    const placed = rows.map((row) => {
      const sequence = row.sequence as WasmSequence;
      const position = added.get(sequence) ?? sequence.length;
      added.set(sequence, position + 1);
      return { table: sequence.table, position };
    });
    let missing = 0;
    for (const [sequence, length] of added) missing += sequence.pagesTo(length);
    if (missing > this.#pool.free) throw noPages();
    for (const [sequence, length] of added) sequence.grow(length);
    const positions = placed.map(({ position }) => position);
    placeAngles(this.#memory, this.#space.angles, this.shape.turns, positions);
    return placed;
  }

  #load(rows: readonly StepRow[]): void {
    const { kernels } = this.#memory;
    for (const [index, { input }] of rows.entries()) {
      const residual = residualAt(this.#space, index);
      if (typeof input === "number") {
        const { weights, columns, multipliers, exponents } = this.#model.embedding!;
        const view = new DataView(this.#memory.buffer);
        const multiplier = view.getInt16(multipliers + 2 * input, true);
        kernels.embed(
          firstOfRow(weights, columns, input),
          multiplier,
          view.getInt8(exponents + input),
          columns,
          residual,
        );
      } else {
        this.#memory.integers(residual, input.length).set(input);
      }
    }
  }

  #tell(rows: number, layer: number, onLayer: LayerListener): void {
    const length = layerLeafLength(this.shape, layer > 0);
    for (let row = 0; row < rows; row++) {
      onLayer(row, layer, this.#memory.bytes(residualAt(this.#space, row) - 1, length));
    }
  }
}

/** Not of shared memory, whatever it is copied from. */
function copyOf(values: Int32Array): Int32Array {
  const copy = new Int32Array(values.length);
  copy.set(values);
  return copy;
}
