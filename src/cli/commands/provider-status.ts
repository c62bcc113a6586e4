import type { Command } from "commander";
import type { ProviderView } from "../../protocol/gateway-api.ts";
import { SkeinError } from "../../util/errors.ts";
import { printableJson, printableLine } from "../../util/printable.ts";
import { contextOf } from "../context.ts";

/** `skein provider status [id]`: how much work a provider gets from a gateway, and why not more. */
export async function providerStatus(id: string | undefined, command: Command): Promise<void> {
  const context = contextOf(command);
  const joinToken = (context.flags["token"] as string | undefined) ?? context.settings.joinToken;
  const all = await context.client(joinToken).providers();
  const found = id === undefined ? all : all.filter((provider) => provider.id.includes(id));
  if (found.length === 0) {
    throw new SkeinError("not_found", "The gateway knows no such provider.", {
      hint: "`skein providers` lists those that joined; a provider prints its own id when it starts.",
    });
  }
  if (context.flags["json"] === true) {
    console.log(printableJson({ object: "list", data: found }));
    return;
  }
  for (const provider of found) for (const line of linesOf(provider)) console.log(printableLine(line));
}

function linesOf({ id, state, reason, region_doubt, work }: ProviderView): string[] {
  const considered = work.chosen + work.passed_over;
  const lines = [
    `${id}: ${state}${reason === "" ? "" : ` (${reason})`}`,
    `  chosen in ${work.chosen} of ${considered} decisions lately`,
  ];
  if (region_doubt !== null) lines.push(`  requests for its region do not come here: ${region_doubt}`);
  if (considered === 0) lines.push(`  ${work.advice}`);
  for (const { reason: word, count, advice } of work.reasons) {
    lines.push(`  ${count} times not, ${word.replaceAll("_", " ")}: ${advice}`);
  }
  return lines;
}
