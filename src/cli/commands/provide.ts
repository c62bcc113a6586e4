import { join } from "node:path";
import { tmpdir } from "node:os";
import { mkdtempSync, rmSync } from "node:fs";
import type { Command } from "commander";
import { contextOf } from "../context.ts";
import { runUntilStopped } from "../foreground.ts";
import { runProvider } from "../processes/run-provider.ts";
import { providerConfigOf } from "../provider-config.ts";
import { reportLine, shortId, step } from "../terminal.ts";

/** `skein provide` */
export async function provide(command: Command): Promise<void> {
  const context = contextOf(command);
  const { file, remove } = identityFile(context.flags["identity"]);
  process.on("exit", remove);
  const config = providerConfigOf(context, file);
  let lastLine = "";
  const running = await runProvider(config, (report) => {
    if (report.type === "ready" && report.role === "provider") {
      step("done", `offering '${report.model}' on ${report.backend} as provider ${shortId(report.id)}`);
      return;
    }
    const line = reportLine(report);
    if (line === null || withoutTime(line) === lastLine) return;
    // The same failure again and again is one line.
    lastLine = withoutTime(line);
    const good = report.type === "joined" || (report.type === "engine" && report.state === "ready");
    step(good ? "done" : report.type === "progress" ? "doing" : "warning", line);
  });
  await runUntilStopped(running);
}

function withoutTime(line: string): string {
  return line.replace(/ Trying again.*/, "");
}

/** Without a key file every run is a new provider: two on one machine must not be the same peer. */
function identityFile(given: unknown): { file: string; remove: () => void } {
  if (typeof given === "string") return { file: given, remove: () => undefined };
  const folder = mkdtempSync(join(tmpdir(), "skein-provider-"));
  return {
    file: join(folder, "provider.key"),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
