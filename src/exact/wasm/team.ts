/** Threads that run steps together: what they share in memory, how they start a step and how they meet. */
import { KernelMemory, type SharedKernels } from "./kernels.ts";
import { type Barrier, Program, type ProgramRow, type ProgramSetup } from "./program.ts";
import { logitRowsMax } from "./workspace.ts";

/** Everything another thread needs; can be cloned. */
export interface TeamMember {
  readonly kernels: SharedKernels;
  readonly setup: ProgramSetup;
  /** Address of the control block. */
  readonly control: number;
  readonly rowsMax: number;
  readonly thread: number;
  /** A thread that does not come to a barrier within this has died. */
  readonly meetTimeoutMs: number;
}

/** Starts the other threads: each must call `joinTeam` with its member. Returns a function that ends them all. */
export type StartThreads = (members: readonly TeamMember[]) => () => void;

/** 32-bit numbers of the control block; rows follow. */
const arrivedAt = 0;
const roundAt = 1;
const stepAt = 2;
const rowsAt = 3;
const logitsAt = 4;
/** Threads that have come so far, the leader not counted. */
const readyAt = 5;
const header = 16;
const wordsPerRow = 2;

/** Checks of a word before a thread sleeps: some tens of microseconds. */
const spins = 4_000;
export const meetTimeoutMsDefault = 20_000;
/** A sleeping thread looks up this often; nothing depends on it. */
const idleWaitMs = 60_000;

export function controlBytes(rowsMax: number): number {
  // Page table, position and whether its logits are wanted.
  return 4 * (header + (wordsPerRow + 1) * rowsMax);
}

function controlWords({ control, rowsMax }: TeamMember, memory: KernelMemory): Int32Array {
  return memory.integers(control, controlBytes(rowsMax) / 4);
}

/** Sense-reversing barrier: the last one to arrive opens the next round. */
function barrierOf(words: Int32Array, { setup: { threads }, meetTimeoutMs }: TeamMember): Barrier {
  if (threads === 1) return () => undefined;
  return () => {
    const round = Atomics.load(words, roundAt);
    if (Atomics.add(words, arrivedAt, 1) + 1 === threads) {
      Atomics.store(words, arrivedAt, 0);
      Atomics.add(words, roundAt, 1);
      Atomics.notify(words, roundAt);
      return;
    }
    for (let i = 0; i < spins; i++) if (Atomics.load(words, roundAt) !== round) return;
    // Who opened the round before may call only when others sleep in this one already: being woken means nothing.
    while (Atomics.load(words, roundAt) === round) {
      // Not a failure of a request: threads that missed each other once compute nonsense from then on.
      if (Atomics.wait(words, roundAt, round, meetTimeoutMs) === "timed-out") {
        throw new Error("a compute thread of the exact engine does not answer");
      }
    }
  };
}

/** The thread that leads: tells the others what to do, and does its own share. */
export class Team {
  readonly #words: Int32Array;
  readonly #rowsMax: number;
  readonly #program: Program;
  readonly #threads: number;
  /** A step that was not finished leaves the threads at different places. */
  #isBroken = false;

  constructor(leader: TeamMember, memory: KernelMemory) {
    this.#words = controlWords(leader, memory);
    this.#rowsMax = leader.rowsMax;
    this.#threads = leader.setup.threads;
    this.#program = new Program(memory, leader.setup, 0, barrierOf(this.#words, leader));
  }

  /** Runs all layers and then logits, `logitRowsMax` rows at a time; calls back behind each. */
  step(
    rows: readonly ProgramRow[],
    logitRows: readonly number[],
    on: { layer(layer: number): void; logits(rows: readonly number[]): void },
    layers: number,
  ): void {
    if (this.#isBroken) throw new Error("an earlier step of the exact engine was not finished");
    this.#isBroken = this.#threads > 1;
    this.#announce(rows, logitRows);
    for (let layer = 0; layer < layers; layer++) {
      this.#program.runLayer(layer, rows);
      on.layer(layer);
    }
    for (const some of groupsOf(logitRows)) {
      this.#program.runLogits(some);
      on.logits(some);
    }
    this.#isBroken = false;
  }

  isComplete(): boolean {
    return Atomics.load(this.#words, readyAt) === this.#threads - 1;
  }

  #announce(rows: readonly ProgramRow[], logitRows: readonly number[]): void {
    if (this.#threads === 1) return;
    const words = this.#words;
    words[rowsAt] = rows.length;
    words[logitsAt] = logitRows.length;
    for (const [i, { table, position }] of rows.entries()) {
      words[header + wordsPerRow * i] = table;
      words[header + wordsPerRow * i + 1] = position;
    }
    words.set(logitRows, header + wordsPerRow * this.#rowsMax);
    Atomics.add(words, stepAt, 1);
    Atomics.notify(words, stepAt);
  }
}

/** A thread's life: waits for steps and does its share of each, until the thread is ended from outside. */
export function joinTeam(member: TeamMember): never {
  const memory = new KernelMemory(member.kernels);
  const words = controlWords(member, memory);
  const { setup, thread } = member;
  const program = new Program(memory, setup, thread, barrierOf(words, member));
  Atomics.add(words, readyAt, 1);
  // Steps are counted in 32 bits.
  for (let step = 0; ; step = (step + 1) | 0) {
    awaitStep(words, step);
    const rows = Array.from({ length: words[rowsAt]! }, (_, i) => ({
      table: words[header + wordsPerRow * i]! >>> 0,
      position: words[header + wordsPerRow * i + 1]!,
    }));
    const from = header + wordsPerRow * member.rowsMax;
    const logitRows = Array.from(words.subarray(from, from + words[logitsAt]!));
    for (let layer = 0; layer < setup.model.layers.length; layer++) program.runLayer(layer, rows);
    for (const some of groupsOf(logitRows)) program.runLogits(some);
  }
}

function awaitStep(words: Int32Array, step: number): void {
  for (let i = 0; i < spins; i++) if (Atomics.load(words, stepAt) !== step) return;
  while (Atomics.load(words, stepAt) === step) Atomics.wait(words, stepAt, step, idleWaitMs);
}

function groupsOf(rows: readonly number[]): number[][] {
  return Array.from({ length: Math.ceil(rows.length / logitRowsMax) }, (_, i) =>
    rows.slice(i * logitRowsMax, (i + 1) * logitRowsMax),
  );
}
