/** Output for people. */
import { styleText } from "node:util";
import Table from "cli-table3";
import { printableLine } from "../util/printable.ts";
import type { Report } from "./processes/config.ts";

type Style = Parameters<typeof styleText>[0];

/** Colour where the stream shows colour (NO_COLOR is honoured). */
export function styled(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return styleText(style, text, { stream });
}

/** A line of progress on stderr, so that stdout stays for results. */
export function step(mark: "done" | "doing" | "warning" | "failed", text: string): void {
  const marks = { done: "✔", doing: "…", warning: "!", failed: "✖" };
  const colors = { done: "green", doing: "dim", warning: "yellow", failed: "red" } as const;
  console.error(`${styled(colors[mark], marks[mark], process.stderr)} ${printableLine(text)}`);
}

export function seconds(sinceMs: number): string {
  return `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;
}

/** Decimal units, as disks and downloads are sold. */
export function bytesText(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB"];
  const power = bytes < 1000 ? 0 : Math.min(3, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value.toFixed(power === 0 || value >= 100 ? 0 : 1)} ${units[power]}`;
}

export function table(head: string[], rows: (string | number)[][]): string {
  const lines = new Table({
    head: head.map((title) => styled("bold", title)),
    // Colours by `styled`, which looks at the terminal; the table's own would also go into files.
    style: { head: [], border: [], compact: true, "padding-left": 0, "padding-right": 2 },
    chars: {
      top: "",
      "top-mid": "",
      "top-left": "",
      "top-right": "",
      bottom: "",
      "bottom-mid": "",
      "bottom-left": "",
      "bottom-right": "",
      left: "",
      "left-mid": "",
      right: "",
      "right-mid": "",
      mid: "",
      "mid-mid": "",
      middle: "",
    },
  });
  // Names, reasons and regions come from other parties.
  lines.push(...rows.map((row) => row.map((cell) => printableLine(String(cell)))));
  return lines.toString();
}

/** An id that people can tell apart: the beginning of all peer ids is the same. */
export function shortId(id: string): string {
  return `${id.slice(0, 8)}…${id.slice(-6)}`;
}

/** A price sheet's amount per million tokens: "$0.15". */
export function perMillion(nanoUsd: string): string {
  const usd = Number(nanoUsd) / 1e9;
  return usd === 0 ? "free" : `$${usd.toLocaleString("en", { maximumFractionDigits: 4 })}`;
}

const gatewayDefault = "http://127.0.0.1:4141";

/** What adds a provider to a gateway, as it is typed. @param url where this machine reaches the gateway */
export function provideCommand(url: string): string {
  return `npx skein provide --model <file.gguf>${isUsualGateway(url) ? "" : ` --join ${url}`}`;
}

/** Whether commands find it without being told. */
export function isUsualGateway(url: string): boolean {
  return url.replace(/\/+$/, "") === gatewayDefault;
}

/** What a provider tells about itself, as a line; null: nothing worth saying. */
export function reportLine(report: Report): string | null {
  switch (report.type) {
    case "progress":
      return report.text;
    case "joined":
      return `joined ${report.target} (gateway ${shortId(report.gatewayId)})`;
    case "lost":
      return `${report.target}: ${report.message} Trying again in ${(report.retryInMs / 1000).toFixed(1)} s.`;
    case "engine":
      return report.state === "ready"
        ? "the engine runs again"
        : `the engine is ${report.state}: ${report.reason}`;
    default:
      return null;
  }
}
