import { pino } from "pino";
import type { Logger } from "../util/log.ts";

/** JSON lines on stderr; stdout belongs to results. */
export function createLogger(level: string, name: string): Logger {
  return pino({ level, name, base: { pid: process.pid } }, pino.destination({ dest: 2, sync: true }));
}
