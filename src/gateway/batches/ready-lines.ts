/** Lines of a batch that wait to be asked: read ahead a little, identical ones held back behind the first. */
import { SkeinError } from "../../util/errors.ts";
import type { Random } from "../../util/random.ts";
import { checkLine, readLines } from "./lines.ts";
import type { BatchLine } from "./lines.ts";
import type { LineProgress } from "./progress.ts";

/** Lines read ahead, and their bytes. */
const aheadLinesMax = 256;
const aheadBytesMax: number = 8 * 1024 * 1024;

export interface ReadyLine {
  readonly line: BatchLine;
  /** Attempts that failed through no fault of its own. */
  readonly failures: number;
  /** Not before this moment (monotonic milliseconds). */
  readonly notBeforeMs: number;
}

/** Who asked the same as another line. */
export type Twin = Pick<BatchLine, "number" | "customId">;

export class ReadyLines {
  readonly #lines: AsyncGenerator<BatchLine, void>;
  readonly #progress: LineProgress;
  /** First line of each question that several may ask. */
  readonly #firsts = new Map<string, number>();
  readonly #twins = new Map<number, Twin[]>();
  #ready: ReadyLine[] = [];
  #readyBytes = 0;
  #isReadToEnd = false;
  #filling: Promise<void> | null = null;

  constructor(
    file: AsyncIterable<Uint8Array>,
    endpoint: string,
    { random, progress }: { random: Random; progress: LineProgress },
  ) {
    this.#progress = progress;
    this.#lines = linesOf(file, endpoint, random);
  }

  /** Whether nothing is left to be taken; what was taken may come back. */
  get isEmpty(): boolean {
    return this.#isReadToEnd && this.#ready.length === 0 && this.#filling === null;
  }

  /**
   * Reads on where there is room for more.
   *
   * @param onDone hears of a line whose twin was answered before
   * @returns null when there is nothing to do now
   */
  fill(onDone: (twin: Twin, first: number) => Promise<void>): Promise<void> | null {
    if (this.#isReadToEnd || this.#filling !== null || this.#ready.length >= aheadLinesMax / 2) return null;
    if (this.#readyBytes >= aheadBytesMax / 2) return null;
    this.#filling = this.#fill(onDone).finally(() => (this.#filling = null));
    return this.#filling;
  }

  /** The next line that may be asked now. @param hasRoom whether a model has a free slot */
  take(nowMs: number, hasRoom: (model: string) => boolean): ReadyLine | null {
    const index = this.#ready.findIndex(
      ({ line, notBeforeMs }) => notBeforeMs <= nowMs && hasRoom(line.request.model),
    );
    if (index < 0) return null;
    const [taken] = this.#ready.splice(index, 1);
    this.#readyBytes -= taken!.line.bytes;
    return taken!;
  }

  putBack(ready: ReadyLine): void {
    this.#ready.push(ready);
    this.#readyBytes += ready.line.bytes;
  }

  /** Lines that asked the same as one that is done now. */
  twinsOf(number: number): readonly Twin[] {
    const twins = this.#twins.get(number) ?? [];
    this.#twins.delete(number);
    return twins;
  }

  async close(): Promise<void> {
    await this.#lines.return();
  }

  async #fill(onDone: (twin: Twin, first: number) => Promise<void>): Promise<void> {
    while (this.#ready.length < aheadLinesMax && this.#readyBytes < aheadBytesMax) {
      const { value: line, done } = await this.#lines.next();
      if (done === true) {
        this.#isReadToEnd = true;
        return;
      }
      const first = this.#firstOf(line);
      if (this.#progress.isDone(line.number)) continue;
      if (first === line.number) this.putBack({ line, failures: 0, notBeforeMs: 0 });
      else if (this.#progress.isDone(first)) await onDone(line, first);
      else this.#addTwin(first, { number: line.number, customId: line.customId });
    }
  }

  #addTwin(first: number, twin: Twin): void {
    const twins = this.#twins.get(first);
    if (twins === undefined) this.#twins.set(first, [twin]);
    else twins.push(twin);
  }

  #firstOf({ sameAs, number }: BatchLine): number {
    if (sameAs === null) return number;
    const first = this.#firsts.get(sameAs);
    if (first === undefined) this.#firsts.set(sameAs, number);
    return first ?? number;
  }
}

/** Those that can be asked; what is wrong with the others was said when the batch was checked. */
async function* linesOf(
  file: AsyncIterable<Uint8Array>,
  endpoint: string,
  random: Random,
): AsyncGenerator<BatchLine, void> {
  for await (const raw of readLines(file)) {
    try {
      yield checkLine(raw, endpoint, random, () => undefined);
    } catch (error) {
      if (!(error instanceof SkeinError)) throw error;
    }
  }
}
