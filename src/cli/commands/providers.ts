import type { Command } from "commander";
import type { ProviderView, ReputationView } from "../../protocol/gateway-api.ts";
import { SkeinError } from "../../util/errors.ts";
import { printableJson, printableLine } from "../../util/printable.ts";
import { type Context, contextOf } from "../context.ts";
import { auditLine } from "./audit.ts";
import { perMillion, provideCommand, table } from "../terminal.ts";

const head = [
  "provider",
  "model",
  "state",
  "round trip",
  "first token",
  "tokens/s",
  "load",
  "queue",
  "done / failed",
  "in + out / M",
  "region",
];

/** `skein providers [id]` */
export async function providers(id: string | undefined, command: Command): Promise<void> {
  const context = contextOf(command);
  const data = await context.client().providers();
  if (id !== undefined) return showOne(context, data, id);
  if (context.flags["json"] === true) {
    console.log(printableJson({ object: "list", data }));
    return;
  }
  if (data.length === 0) {
    console.log(`No provider has joined yet. Add one: ${provideCommand(context.client().baseUrl)}`);
    return;
  }
  console.log(table(head, data.flatMap(rowsOf)));
  for (const { id: providerId, reason, region_doubt } of data) {
    if (reason !== "") console.log(printableLine(`${providerId}: ${reason}`));
    if (region_doubt !== null) console.log(printableLine(`${providerId}: ${region_doubt}`));
  }
}

/** @throws SkeinError `not_found` */
async function showOne(context: Context, all: readonly ProviderView[], id: string): Promise<void> {
  const found = all.filter((other) => other.id === id || other.id.startsWith(id) || other.id.endsWith(id));
  if (found.length !== 1) {
    const many = found.length === 0 ? "No provider" : `${found.length} providers`;
    throw new SkeinError("not_found", `${many} of this gateway match '${id}'.`, {
      hint: "`skein providers` lists them.",
    });
  }
  const provider = await context.client().provider(found[0]!.id);
  if (context.flags["json"] === true) {
    console.log(printableJson(provider));
    return;
  }
  console.log(table(head, rowsOf(provider)));
  if (provider.reason !== "") console.log(printableLine(`${provider.state}: ${provider.reason}`));
  if (provider.region_doubt !== null) console.log(printableLine(`region: ${provider.region_doubt}`));
  if (provider.reputation === undefined) console.log("This gateway does not audit.");
  else for (const line of reputationLines(provider.reputation)) console.log(printableLine(line));
}

function reputationLines({
  trust,
  standing,
  audit,
  factors,
  excluded,
  evidence,
  audits,
}: ReputationView): string[] {
  const percent = (value: number): string => `${Math.round(value * 1000) / 10} %`;
  return [
    `reputation: ${standing}, trust ${trust.toFixed(2)}; ${percent(audit.probability)} of its answers are audited (${audit.reason})`,
    ...factors.map(({ name, value, from }) => {
      const counts = Object.entries(from).map(([key, count]) =>
        key.endsWith("Ms")
          ? `${key.slice(0, -2)} ${(count / 3600_000).toFixed(2)} h`
          : `${key} ${Math.round(count * 10) / 10}`,
      );
      return `  ${name} ${value.toFixed(2)}: ${counts.join(", ")}`;
    }),
    ...evidence.map(
      ({ model_id, tokens, log_evidence, flagged_at }) =>
        `  statistics of ${model_id.slice(0, 24)}…: ${tokens} tokens, evidence e^${log_evidence.toFixed(1)} (flagged at e^${flagged_at.toFixed(1)})`,
    ),
    ...excluded.map(
      ({ model_id, reason, until }) =>
        `excluded for ${model_id} until ${new Date(until * 1000).toISOString().slice(0, 10)}: ${reason}`,
    ),
    ...audits.map((each) => `  ${auditLine(each)}`),
  ];
}

function rowsOf(provider: ProviderView): (string | number)[][] {
  const measured = [
    `${milliseconds(provider.round_trip_ms)}${provider.round_trip_from === "measured" ? "" : ` (${provider.round_trip_from})`}`,
    milliseconds(provider.ttft_ms),
    provider.tokens_per_second === null ? "–" : provider.tokens_per_second.toFixed(0),
  ];
  const counts = `${provider.requests.completed} / ${provider.requests.failed}`;
  if (provider.models.length === 0) {
    return [
      [provider.id, "–", provider.state, ...measured, "–", provider.queued, counts, "–", regionOf(provider)],
    ];
  }
  return provider.models.map((model) => [
    provider.id,
    model.name,
    provider.state,
    ...measured,
    `${provider.active} of ${model.parallel_max}${model.kept_free > 0 ? `, ${model.kept_free} kept free` : ""}`,
    provider.queued,
    counts,
    `${perMillion(model.price.input_per_million_tokens)} + ${perMillion(model.price.output_per_million_tokens)}`,
    regionOf(provider),
  ]);
}

function regionOf({ region, region_doubt }: ProviderView): string {
  return region === "" ? "–" : `${region}${region_doubt === null ? "" : " (doubtful)"}`;
}

function milliseconds(value: number | null): string {
  return value === null ? "–" : `${value.toFixed(1)} ms`;
}
