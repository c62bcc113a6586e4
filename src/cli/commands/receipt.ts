import { writeFileSync } from "node:fs";
import type { Command } from "commander";
import { SkeinError } from "../../util/errors.ts";
import { printableJson } from "../../util/printable.ts";
import { contextOf } from "../context.ts";

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** `skein receipt <id> [file]` */
export async function receipt(id: string, file: string | undefined, command: Command): Promise<void> {
  const context = contextOf(command);
  const document = await context.client().receipt(id);
  if (file === undefined || file === "-") {
    console.log(printableJson(document));
    return;
  }
  try {
    // It holds a prompt and its answer.
    writeFileSync(file, `${JSON.stringify(document, null, 2)}\n`, { mode: 0o600 });
  } catch (error) {
    throw new SkeinError("invalid_config", `${file} cannot be written: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const parts = document.choices.reduce((sum, choice) => sum + choice.parts.length, 0);
  const answers = document.choices.filter(({ replica = 0 }) => replica === 0).length;
  const replicas = document.choices.length - answers;
  const summary = [
    counted(answers, "answer"),
    ...(replicas === 0 ? [] : [counted(document.choices.length, "replica")]),
    counted(parts, "attempt"),
  ].join(", ");
  if (context.flags["json"] === true)
    console.log(printableJson({ file, choices: document.choices.length, parts }));
  else console.log(`${file}: ${summary}; check it with: skein verify ${file}`);
}
