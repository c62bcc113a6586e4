import { join } from "node:path";
import { tmpdir } from "node:os";
import { mkdtempSync, rmSync } from "node:fs";
import type { Command } from "commander";
import { printable } from "../../util/printable.ts";
import { contextOf } from "../context.ts";
import { exitWhenStopped, runUntilStopped } from "../foreground.ts";
import type { Report } from "../processes/config.ts";
import { runProvider } from "../processes/run-provider.ts";
import { providerConfigOf, threadsWarning } from "../provider-config.ts";
import { createPace, createStatusLine, statusText } from "../status-line.ts";
import { reportLine, shortId, step } from "../terminal.ts";

const statusIntervalMs = 1_000;

/** `skein provide` */
export async function provide(command: Command): Promise<void> {
  const context = contextOf(command);
  const { file, remove } = identityFile(context.flags["identity"]);
  process.on("exit", remove);
  const config = providerConfigOf(context, file);
  const warning = "threads" in config.engine ? threadsWarning(context.settings.threads) : null;
  if (warning !== null) step("warning", warning);
  const startMs = performance.now();
  const asJson = context.flags["json"] === true;
  const hasScreen = !asJson && process.env["TERM"] !== "dumb";
  const line = createStatusLine(hasScreen ? process.stderr : { write: () => undefined });
  const tell = createTeller();
  const started = exitWhenStopped();
  const running = await runProvider(config, (report) => {
    if (asJson) console.log(printable(JSON.stringify(report)));
    else line.above(() => tell(report));
  });
  const pace = createPace();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    const activity = running.activity();
    line.show(statusText(activity, pace(nowMs, activity.tokens), nowMs - startMs));
  }, statusIntervalMs);
  await runUntilStopped(
    {
      drain: async () => {
        if (hasScreen) line.above(() => step("doing", "finishing what runs; Ctrl-C again ends at once"));
        await running.drain?.();
      },
      close: () => {
        clearInterval(timer);
        line.end();
        return running.close();
      },
    },
    started,
  );
}

/** Prints reports as lines for people. */
function createTeller(): (report: Report) => void {
  let lastLine = "";
  return (report) => {
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
  };
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
