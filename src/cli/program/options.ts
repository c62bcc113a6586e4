/** Options that several commands have. */
import { Option } from "commander";
import { wholeNumber } from "../flags.ts";

/** Longer answers than any model gives. */
export const answerTokensMax = 100_000_000;

export const gatewayOption = (): Option =>
  new Option("--gateway <url>", "gateway to ask (default: http://127.0.0.1:4141)");
export const keyOption = (): Option =>
  new Option("--api-key <key>", "API key for it; better in SKEIN_API_KEY");
export const seedNumber: (text: string) => number = wholeNumber(
  -Number.MAX_SAFE_INTEGER,
  Number.MAX_SAFE_INTEGER,
);
export const jsonOption = (): Option => new Option("--json", "print JSON");
export const bitsOption = (): Option =>
  new Option(
    "--bits <n>",
    "of weights converted for the exact engine: 8, or 4 for half the size at some loss (default: 8)",
  ).choices(["8", "4"]);

export const threadsOption = (): Option =>
  new Option(
    "--threads <n>",
    "CPU threads of the model, at most one for each core (default: one core is left free)",
  );
