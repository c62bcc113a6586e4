/** `skein batch …` */
import type { Command } from "commander";
import { gatewayOption, jsonOption, keyOption } from "./options.ts";

export function addBatchCommands(program: Command): void {
  const batch = program
    .command("batch")
    .description("many requests in a file, answered at low priority and price");
  /** A command about batches, which asks a gateway. */
  function batchCommand(usage: string, description: string): Command {
    return batch
      .command(usage)
      .description(description)
      .addOption(gatewayOption())
      .addOption(keyOption())
      .addOption(jsonOption());
  }
  batchCommand("submit <file>", "hand in a JSONL file of requests, and watch it until its end")
    .option("--detach", "do not watch")
    .option("--window <hours>", "give up what is not answered by then: 1h to 168h", "24h")
    .option("--output <file>", "where to write the answers")
    .option("--errors <file>", "where to write the lines that failed")
    .addHelpText(
      "after",
      '\nEach line of the file: {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {…}}\n\nExample:\n  skein batch submit questions.jsonl --output answers.jsonl',
    )
    .action(async (file: string, _, command: Command) =>
      (await import("../commands/batch.ts")).submitBatch(file, command),
    );
  batchCommand("status [id]", "say how far a batch is (default: the latest ones)").action(
    async (id: string | undefined, _, command: Command) =>
      (await import("../commands/batch.ts")).batchStatus(id, command),
  );
  batchCommand("download <id>", "write the answers of a batch that has ended")
    .option("--output <file>", "default: stdout")
    .option("--errors <file>", "where to write the lines that failed")
    .action(async (id: string, _, command: Command) =>
      (await import("../commands/batch.ts")).downloadBatch(id, command),
    );
  batchCommand("cancel <id>", "end a batch; what is answered is kept").action(
    async (id: string, _, command: Command) =>
      (await import("../commands/batch.ts")).cancelBatch(id, command),
  );
}
