import { writeFileSync } from "node:fs";
import type { Command } from "commander";
import type { AuditView } from "../../protocol/gateway-api.ts";
import { SkeinError } from "../../util/errors.ts";
import { printableJson, printableLine } from "../../util/printable.ts";
import { contextOf } from "../context.ts";
import { shortId, step } from "../terminal.ts";
import { readJson } from "./verify.ts";

/** What scripts look at, as with `skein verify`. */
const exitCodes = { pass: 0, fail: 1, unable: 2 } as const;

/** `skein audit list` */
export async function listAudits(command: Command): Promise<void> {
  const context = contextOf(command);
  const provider = (context.flags["provider"] as string | undefined) ?? null;
  const list = await context.client().audits(provider, context.flags["limit"] as number);
  const { data, checker } = list;
  if (checker.asleep && context.flags["json"] !== true) {
    step("failed", "This gateway's checker passes answers that are wrong: its verdicts are not used.");
  }
  if (context.flags["json"] === true) console.log(printableJson(list));
  else if (data.length === 0) console.log("No answer was audited yet.");
  else for (const audit of data) console.log(printableLine(auditLine(audit)));
}

/** `skein audit show <receipt>` */
export async function showAudit(receipt: string, command: Command): Promise<void> {
  const context = contextOf(command);
  const audit = await context.client().audit(receipt);
  const file = context.flags["evidence"] as string | undefined;
  if (file !== undefined) writeEvidence(audit, file);
  if (context.flags["json"] === true) console.log(printableJson(audit));
  else tell(audit);
  process.exitCode = exitCodes[audit.result];
}

/** `skein audit run <file>` */
export async function runAudit(file: string, command: Command): Promise<void> {
  const context = contextOf(command);
  const document = (await readJson(file)) as object;
  const data = await context.client().runAudit(document);
  if (context.flags["json"] === true) console.log(printableJson({ object: "list", data }));
  else for (const audit of data) tell(audit);
  const results = data.map(({ result }) => result);
  const worst = results.includes("fail")
    ? "fail"
    : results.includes("pass") && !results.includes("unable")
      ? "pass"
      : "unable";
  process.exitCode = exitCodes[worst];
}

/** One audit in a line. */
export function auditLine(audit: AuditView): string {
  const when = new Date(audit.issued_at * 1000).toISOString().replace("T", " ").slice(0, 19);
  const why =
    audit.chosen_by === "beacon" ? `chosen at ${Math.round(audit.probability * 1000) / 10} %` : "asked for";
  return `${when}  ${audit.receipt.slice(0, 12)}  ${shortId(audit.provider)}  ${audit.result}${detailOf(audit)}  (${why})`;
}

function detailOf({ result, unable, problem, positions, took_ms }: AuditView): string {
  if (result === "pass") return `: ${positions} positions in ${took_ms} ms`;
  return result === "unable" ? `: ${unable}` : `: ${problem ?? "wrong"}`;
}

function tell(audit: AuditView): void {
  step(audit.result === "pass" ? "done" : "failed", printableLine(auditLine(audit)));
  if (audit.result !== "fail") return;
  const { finding } = audit;
  if (finding !== null) {
    const layer = finding.layer === null ? "" : `, layer ${finding.layer}`;
    step("failed", `wrong ${finding.kind} at position ${finding.position}${layer}, of ${audit.model_id}`);
  }
  if (audit.evidence == null) step("failed", "What proves it is shown only to whoever asked the question.");
}

/** @throws SkeinError `not_found`, `invalid_config` */
function writeEvidence({ evidence, result }: AuditView, file: string): void {
  if (evidence == null) {
    const why = result === "fail" ? "it is shown only to whoever asked the question" : "nothing was wrong";
    throw new SkeinError("not_found", `There is no evidence: ${why}.`);
  }
  try {
    // It holds a prompt and its answer.
    writeFileSync(file, `${JSON.stringify(evidence, null, 2)}\n`, { mode: 0o600 });
  } catch (error) {
    throw new SkeinError("invalid_config", `${file} cannot be written: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
