import type { Command } from "commander";
import type { ProviderView } from "../../protocol/gateway-api.ts";
import { printableJson, printableLine } from "../../util/printable.ts";
import { contextOf } from "../context.ts";
import { perMillion, table } from "../terminal.ts";

/** `skein providers` */
export async function providers(command: Command): Promise<void> {
  const context = contextOf(command);
  const data = await context.client().providers();
  if (context.flags["json"] === true) {
    console.log(printableJson({ object: "list", data }));
    return;
  }
  if (data.length === 0) {
    console.log("No provider has joined yet. Add one: npx skein provide --model <file.gguf>");
    return;
  }
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
  console.log(table(head, data.flatMap(rowsOf)));
  for (const provider of data.filter(({ reason }) => reason !== ""))
    console.log(printableLine(`${provider.id}: ${provider.reason}`));
}

function rowsOf(provider: ProviderView): (string | number)[][] {
  const measured = [
    milliseconds(provider.round_trip_ms),
    milliseconds(provider.ttft_ms),
    provider.tokens_per_second === null ? "–" : provider.tokens_per_second.toFixed(0),
  ];
  const counts = `${provider.requests.completed} / ${provider.requests.failed}`;
  if (provider.models.length === 0) {
    return [
      [
        provider.id,
        "–",
        provider.state,
        ...measured,
        "–",
        provider.queued,
        counts,
        "–",
        provider.region || "–",
      ],
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
    provider.region || "–",
  ]);
}

function milliseconds(value: number | null): string {
  return value === null ? "–" : `${value.toFixed(1)} ms`;
}
