/** How a command ends: exit codes, what a person reads about a failure, and readers that went away. */
import { inspect } from "node:util";
import { CommanderError } from "commander";
import { SkeinError } from "../util/errors.ts";
import { printable } from "../util/printable.ts";

/** The table of `skein --help`. */
export const exitCodes = {
  done: 0,
  failed: 1,
  /** A flag, an argument, a variable or the configuration is wrong: trying again does not help. */
  usage: 2,
  /** Ctrl-C, as shells count it: 128 + SIGINT. */
  interrupted: 130,
} as const;

export const exitCodesHelp =
  "\nExit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 stopped by Ctrl-C.";

export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
  if (!(error instanceof SkeinError)) return exitCodes.failed;
  if (error.code === "invalid_config") return exitCodes.usage;
  return error.code === "cancelled" ? exitCodes.interrupted : exitCodes.failed;
}

/** What happened and what to do about it. Commander has said its own already. */
export function explain(error: unknown, isVerbose: boolean): void {
  if (error instanceof CommanderError) return;
  if (error instanceof SkeinError) {
    console.error(printable(`error: ${error.message}`));
    if (error.hint !== undefined) console.error(printable(error.hint));
  } else {
    console.error(printable(`error: ${error instanceof Error ? error.message : String(error)}`));
    if (!isVerbose) console.error("Add --verbose to see where it comes from.");
  }
  if (isVerbose) console.error(printable(inspect(error)));
}

/**
 * `skein … | head` closes the pipe early: nobody reads the result any more, so there is nothing left to do.
 * Messages that nobody reads (stderr) are lost, and the command goes on.
 */
export function endWithReader(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    process.exit(error.code === "EPIPE" ? exitCodes.done : exitCodes.failed);
  });
  process.stderr.on("error", () => undefined);
}
