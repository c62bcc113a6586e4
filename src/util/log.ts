/**
 * The slice of a structured logger that Skein's code uses (pino satisfies it). Prompts, answers, keys
 * and tokens are never passed to it.
 */
export interface Logger {
  debug(values: object, message: string): void;
  info(values: object, message: string): void;
  warn(values: object, message: string): void;
  error(values: object, message: string): void;
}

const nothing = (): void => undefined;

export const silentLogger: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };
