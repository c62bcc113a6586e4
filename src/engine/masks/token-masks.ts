/**
 * Which tokens each answer may go on with. Grammars are compiled, and masks computed, in threads of their own, beside
 * the model: while it evaluates a token, the mask for the next one is made.
 */
import { SkeinError } from "../../util/errors.ts";
import type { PieceTable } from "../piece-decoder.ts";
import { MaskThread, tooSlow } from "./mask-thread.ts";
import { outcomes, shared, type Vocabulary } from "./messages.ts";

/** Each takes some tens of megabytes, with large vocabularies more. */
const threadsMax = 4;

interface MaskLimits {
  readonly compileTimeoutMs: number;
  readonly maskTimeoutMs: number;
}

const maskLimits: MaskLimits = {
  /** From the grammar's text to its first mask; the usual takes some milliseconds, a hostile one for ever. */
  compileTimeoutMs: 20_000,
  /** A mask takes some microseconds; who is later than this delays everybody. */
  maskTimeoutMs: 1_000,
};

/** Compiled grammars that each keeps for the next requests. */
const grammarsMax = 16;
/** Grammars that wait for a thread: no more than an engine has slots. */
const waitingMax = 64;

/** The state of one answer. */
export interface TokenMask {
  /**
   * What may come next: one bit a token, in words of 32; null when the answer is complete. The words are overwritten
   * by the next state.
   * @throws SkeinError `invalid_request` when the mask takes too long, `engine_failed` when its thread ended
   */
  allowed(): Int32Array | null;
  /** The answer goes on with this token. */
  advance(tokenId: number): void;
  close(): void;
}

interface Entry {
  readonly thread: MaskThread;
  /** Compiled there, or just being compiled. */
  readonly grammars: Map<string, Promise<void>>;
  open: number;
}

export class TokenMasks {
  readonly #vocabulary: () => Vocabulary;
  readonly #limits: MaskLimits;
  readonly #entries = new Set<Entry>();
  #waiting: (() => void)[] = [];
  #nextId = 1;

  constructor(
    model: {
      readonly pieces: PieceTable;
      readonly isEnd: (tokenId: number) => boolean;
      readonly vocabularySize: number;
    },
    limits: Partial<MaskLimits> = {},
  ) {
    this.#limits = { ...maskLimits, ...limits };
    let vocabulary: Vocabulary | null = null;
    this.#vocabulary = () => (vocabulary ??= vocabularyOf(model));
  }

  /**
   * @param tokenIds of the answer so far
   * @throws SkeinError `invalid_request` for a grammar that cannot be used, or an answer that it does not allow
   */
  async open(grammar: string, tokenIds: readonly number[]): Promise<TokenMask> {
    const entry = await this.#entryFor(grammar);
    const id = this.#nextId++;
    const words = Math.ceil(this.#vocabulary().ends.length / 32);
    const memory = new SharedArrayBuffer(4 * (shared.mask + words));
    const view = new Int32Array(memory);
    try {
      await entry.grammars.get(grammar);
      await entry.thread.ask({ type: "open", id, grammar, memory, tokenIds });
      if (view[shared.outcome] === outcomes.refused) throw notAllowed();
    } catch (error) {
      this.#leave(entry);
      throw error;
    }
    return this.#maskOf(entry, id, view);
  }

  /** Ends all threads; pending masks fail. */
  close(): void {
    const closed = new SkeinError("engine_unavailable", "The engine was closed.");
    for (const { thread } of this.#entries) thread.end(closed);
  }

  #maskOf(entry: Entry, id: number, view: Int32Array): TokenMask {
    const { thread } = entry;
    const { maskTimeoutMs } = this.#limits;
    let states = 1;
    let isClosed = false;
    return {
      allowed() {
        waitFor(thread, view, states, maskTimeoutMs);
        if (view[shared.outcome] === outcomes.refused) throw notAllowed();
        return view[shared.outcome] === outcomes.complete ? null : view.subarray(shared.mask);
      },
      advance(tokenId) {
        states += 1;
        thread.send({ type: "advance", id, tokenId });
      },
      close: () => {
        if (isClosed) return;
        isClosed = true;
        thread.send({ type: "close", id });
        this.#leave(entry);
      },
    };
  }

  /** A thread that has the grammar; else an idle one; else another one; else the next that becomes idle. */
  async #entryFor(grammar: string): Promise<Entry> {
    for (;;) {
      const entries = [...this.#entries];
      const having = entries.find(({ grammars }) => grammars.has(grammar));
      const entry = having ?? entries.find(({ open }) => open === 0) ?? this.#start();
      if (entry !== null) {
        entry.open += 1;
        const compiled = entry.grammars.get(grammar) ?? this.#compile(entry, grammar);
        // The latest used stands last.
        entry.grammars.delete(grammar);
        entry.grammars.set(grammar, compiled);
        return entry;
      }
      if (this.#waiting.length >= waitingMax)
        throw new SkeinError("overloaded", "Too many grammars are in use.");
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #start(): Entry | null {
    if (this.#entries.size >= threadsMax) return null;
    const thread = new MaskThread(this.#vocabulary(), this.#limits.compileTimeoutMs, () => {
      this.#entries.delete(entry);
      this.#admit();
    });
    const entry: Entry = { thread, grammars: new Map(), open: 0 };
    this.#entries.add(entry);
    return entry;
  }

  /** In a thread that no sequence uses: nobody's mask waits for it. */
  #compile({ thread, grammars }: Entry, grammar: string): Promise<void> {
    const [oldest] = grammars.keys();
    if (oldest !== undefined && grammars.size >= grammarsMax) {
      grammars.delete(oldest);
      thread.send({ type: "forget", id: 0, grammar: oldest });
    }
    const compiled = thread.ask({ type: "compile", id: this.#nextId++, grammar });
    // Whoever opens it hears of a failure.
    compiled.catch(() => undefined);
    return compiled;
  }

  #leave(entry: Entry): void {
    entry.open -= 1;
    this.#admit();
  }

  #admit(): void {
    this.#waiting.shift()?.();
  }
}

/** Waits until the thread has reached a state: nearly always it has, while the model computed. @throws SkeinError */
function waitFor(thread: MaskThread, view: Int32Array, states: number, maskTimeoutMs: number): void {
  const endMs = performance.now() + maskTimeoutMs;
  for (;;) {
    const reached = Atomics.load(view, shared.states);
    if (reached >= states) return;
    if (thread.failure !== null) throw thread.failure;
    const leftMs = endMs - performance.now();
    if (leftMs <= 0) {
      thread.end(
        new SkeinError("engine_failed", "The thread that watches over the answer's form was too slow."),
      );
      throw tooSlow(`takes longer than ${maskTimeoutMs} ms for one token`);
    }
    Atomics.wait(view, shared.states, reached, leftMs);
  }
}

function notAllowed(): SkeinError {
  return new SkeinError("invalid_request", "The answer so far does not have the form that is asked for.");
}

function vocabularyOf(model: ConstructorParameters<typeof TokenMasks>[0]): Vocabulary {
  const ids = Array.from({ length: model.vocabularySize }, (_, id) => id);
  const pieces = ids.map(model.pieces);
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const bytes = new Uint8Array(new SharedArrayBuffer(length));
  const ends = new Uint32Array(new SharedArrayBuffer(4 * ids.length));
  let end = 0;
  pieces.forEach((piece, id) => {
    bytes.set(piece, end);
    ends[id] = end += piece.length;
  });
  return { bytes, ends, stopIds: ids.filter(model.isEnd) };
}
