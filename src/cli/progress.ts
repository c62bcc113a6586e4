import { createStatusLine } from "./status-line.ts";
import { step } from "./terminal.ts";

/** Work that is over sooner needs no word about its progress. */
const silentMs = 500;
/** More often would only cost time. */
const drawIntervalMs = 100;

export interface Progress {
  show(done: number, total: number): void;
  end(): void;
}

/** Percentages of one work: in place on a terminal, else a line for every quarter. */
export function createProgress(what: string): Progress {
  const isScreen = process.stderr.isTTY && process.env["TERM"] !== "dumb";
  const line = createStatusLine(isScreen ? process.stderr : { write: () => undefined });
  let nextMs = Number.POSITIVE_INFINITY;
  let quarters = 0;
  return {
    show(done, total) {
      const nowMs = performance.now();
      if (nextMs === Number.POSITIVE_INFINITY) nextMs = nowMs + silentMs;
      if (nowMs < nextMs) return;
      nextMs = nowMs + drawIntervalMs;
      if (isScreen) return line.show(`… ${what}: ${Math.floor((100 * done) / total)} %`);
      const passed = Math.floor((4 * done) / total);
      if (passed > quarters) step("doing", `${what}: ${25 * passed} %`);
      quarters = passed;
    },
    end: () => line.end(),
  };
}
