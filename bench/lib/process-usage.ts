/** What other processes use, from /proc: CPU time of all threads in microseconds, resident memory. Linux only. */
import { readdirSync, readFileSync } from "node:fs";

/** Null where the system does not tell. */
export function cpuUs(processIds: readonly number[]): number | null {
  try {
    let ns = 0;
    for (const pid of processIds) {
      for (const thread of readdirSync(`/proc/${pid}/task`)) {
        ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
      }
    }
    return ns / 1000;
  } catch {
    return null;
  }
}

/** Resident bytes. Null where the system does not tell. */
export function residentBytes(processIds: readonly number[]): number | null {
  try {
    return processIds.reduce((sum, pid) => {
      const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))!;
      return sum + 1024 * Number(kilobytes);
    }, 0);
  } catch {
    return null;
  }
}

/** Processes that a process started; none where the system does not tell. */
export function childrenOf(processId: number): number[] {
  try {
    const text = readFileSync(`/proc/${processId}/task/${processId}/children`, "utf8");
    return text.split(" ").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}
