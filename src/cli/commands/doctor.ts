import type { Command } from "commander";
import { printableJson, printableLine } from "../../util/printable.ts";
import { contextOf } from "../context.ts";
import { type Check, checks } from "../doctor/checks.ts";
import { step, styled } from "../terminal.ts";

/** `skein doctor` */
export async function doctor(command: Command): Promise<void> {
  const context = contextOf(command);
  const asJson = context.flags["json"] === true;
  const results: (Check & { name: string })[] = [];
  for (const [name, check] of checks) {
    const result = { name, ...(await check(context)) };
    results.push(result);
    if (!asJson) print(result);
  }
  if (asJson) console.log(printableJson({ checks: results }));
  if (results.some(({ status }) => status === "fail")) process.exitCode = 1;
}

function print({ name, status, found, advice }: Check & { name: string }): void {
  const marks = { ok: "done", warn: "warning", fail: "failed" } as const;
  step(marks[status], `${name.padEnd(10)} ${found}`);
  if (advice !== null) console.error(styled("dim", `             ${printableLine(advice)}`, process.stderr));
}
