/** One line at the bottom of a terminal that is written over in place. Elsewhere there is none. */
import type { Totals } from "./processes/meter.ts";

/** The part of a terminal's stream that is used. */
export interface Screen {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export interface StatusLine {
  show(text: string): void;
  /** Prints other lines, which stay, above. */
  above(print: () => void): void;
  /** Takes the line away, and shows nothing more. */
  end(): void;
}

const clear = "\r\u001b[K";

export function createStatusLine(screen: Screen): StatusLine {
  let shown = "";
  let isOver = screen.isTTY !== true;

  function draw(): void {
    // A line that wraps could not be written over any more.
    const room = (screen.columns ?? 80) - 1;
    const fitting = shown.length > room ? `${shown.slice(0, Math.max(0, room - 1))}…` : shown;
    // The cursor waits at the beginning, so that what others print does not stick to the line's end.
    screen.write(`${clear}${fitting}\r`);
  }

  return {
    show(text) {
      if (isOver || text === shown) return;
      shown = text;
      draw();
    },
    above(print) {
      if (!isOver && shown !== "") screen.write(clear);
      print();
      if (!isOver && shown !== "") draw();
    },
    end() {
      if (!isOver && shown !== "") screen.write(clear);
      isOver = true;
    },
  };
}

/** Shorter ones jump about, longer ones tell of the past. */
const paceWindowMs = 5_000;

/** Tokens per second over the last seconds. */
export function createPace(): (nowMs: number, tokens: number) => number {
  const samples: { atMs: number; tokens: number }[] = [];
  return (nowMs, tokens) => {
    samples.push({ atMs: nowMs, tokens });
    while (samples.length > 2 && nowMs - samples[1]!.atMs >= paceWindowMs) samples.shift();
    const [first] = samples;
    const passedMs = nowMs - first!.atMs;
    return passedMs <= 0 ? 0 : ((tokens - first!.tokens) * 1000) / passedMs;
  };
}

export interface ProviderActivity extends Totals {
  /** Gateways that are served now. */
  readonly gateways: number;
}

export function statusText(activity: ProviderActivity, tokensPerSecond: number, uptimeMs: number): string {
  const { gateways, active, completed, failed } = activity;
  return [
    gateways === 1 ? "1 gateway" : `${gateways} gateways`,
    `${completed} answered`,
    ...(failed > 0 ? [`${failed} failed`] : []),
    `${active} running`,
    `${tokensPerSecond.toFixed(tokensPerSecond < 10 ? 1 : 0)} tokens/s`,
    `up ${duration(uptimeMs)}`,
  ].join(" · ");
}

function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ] as const;
  const first = parts.findIndex(([amount]) => amount > 0);
  const shown = first === -1 ? parts.slice(-1) : parts.slice(first, first + 2);
  return shown.map(([amount, unit]) => `${amount} ${unit}`).join(" ");
}
