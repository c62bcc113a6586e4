/** Passing things on without a wait between them. */

/**
 * Takes one thing after another. Undefined: the next one may come at once. A promise: there is no room for more until it
 * resolves. What it throws or rejects with ends whoever tells it.
 */
export type Sink<T> = (item: T) => Promise<void> | undefined;

/** For those who are only interested in how it ends. */
export function ignore(): undefined {}

/** Passes what an iteration yields to a sink. */
export async function pour<T>(items: AsyncIterable<T> | Iterable<T>, sink: Sink<T>): Promise<void> {
  for await (const item of items) await sink(item);
}

/**
 * The other way round: what `run` tells its sink, as an iteration that returns its result. Each thing has room for the next
 * one when that is asked for. Leaving the iteration aborts `run` and waits for its end.
 */
export async function* drawn<T, R>(
  run: (sink: Sink<T>, signal: AbortSignal) => Promise<R>,
): AsyncGenerator<T, R> {
  const left = new AbortController();
  const told: { readonly item: T; readonly hasRoom: () => void }[] = [];
  let isOver = false;
  let wake = (): void => undefined;
  const sink = (item: T): Promise<void> | undefined => {
    if (left.signal.aborted) return undefined;
    return new Promise((hasRoom) => {
      told.push({ item, hasRoom });
      wake();
    });
  };
  const running = run(sink, left.signal).finally(() => {
    isOver = true;
    wake();
  });
  running.catch(() => undefined);
  try {
    for (;;) {
      const next = told.shift();
      if (next !== undefined) {
        try {
          yield next.item;
        } finally {
          next.hasRoom();
        }
      } else if (isOver) {
        return await running;
      } else {
        await new Promise<void>((resolve) => (wake = resolve));
      }
    }
  } finally {
    if (!isOver) left.abort();
    for (const { hasRoom } of told) hasRoom();
    await running.catch(() => undefined);
  }
}
