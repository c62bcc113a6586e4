/** `skein audit …` */
import type { Command } from "commander";
import { wholeNumber } from "../flags.ts";
import { gatewayOption, jsonOption, keyOption } from "./options.ts";

const exitCodes = "\nExit codes: 0 passed, 1 failed, 2 it could not be checked.";
/** Audits in one list. */
const listMax = 100;

export function addAuditCommands(program: Command): void {
  const audit = program
    .command("audit")
    .description("answers of the exact tier that the gateway computed again");
  const add = (usage: string, description: string): Command =>
    audit
      .command(usage)
      .description(description)
      .addOption(gatewayOption())
      .addOption(keyOption())
      .addOption(jsonOption());
  add("list", "the latest audits")
    .option("--provider <id>", "only of this provider")
    .option("--limit <n>", "how many", wholeNumber(1, listMax), 20)
    .action(async (_, command: Command) => (await import("../commands/audit.ts")).listAudits(command));
  add("show <receipt>", "one audit, with its signed verdict, and what proves a failure")
    .option("--evidence <file>", "write what proves the failure there: `skein verify` checks it anywhere")
    .addHelpText("after", exitCodes)
    .action(async (receipt: string, _, command: Command) =>
      (await import("../commands/audit.ts")).showAudit(receipt, command),
    );
  add("run <file>", "let the gateway audit an answer now: what `skein receipt` wrote; - reads from stdin")
    .addHelpText("after", exitCodes)
    .action(async (file: string, _, command: Command) =>
      (await import("../commands/audit.ts")).runAudit(file, command),
    );
}
