/** A moment, by the clock and by the CPU time that this process has used. */
export interface Mark {
  readonly wallMs: number;
  /** All threads together. */
  readonly cpuMs: number;
}

export function markNow(): Mark {
  const { user, system } = process.cpuUsage();
  return { wallMs: performance.now(), cpuMs: (user + system) / 1000 };
}
