import type { Command } from "commander";
import { printableJson } from "../../util/printable.ts";
import { contextOf } from "../context.ts";
import { perMillion, provideCommand, table } from "../terminal.ts";

/** `skein models` */
export async function models(command: Command): Promise<void> {
  const context = contextOf(command);
  const data = await context.client().models();
  if (context.flags["json"] === true) {
    console.log(printableJson({ object: "list", data }));
    return;
  }
  if (data.length === 0) {
    console.log(`No model is served yet. Add one: ${provideCommand(context.client().baseUrl)}`);
    return;
  }
  const rows = data.map(({ id, skein }) => [
    id,
    skein.providers,
    skein.engines.join(", "),
    skein.trust_tiers.join(", "),
    skein.context_tokens_max.toLocaleString("en"),
    range(skein.price.from.input_per_million_tokens, skein.price.to.input_per_million_tokens),
    range(skein.price.from.output_per_million_tokens, skein.price.to.output_per_million_tokens),
    skein.model_ids
      .map((modelId) => modelId.slice(modelId.indexOf(":") + 1, modelId.indexOf(":") + 9))
      .join(" "),
  ]);
  console.log(
    table(
      ["model", "providers", "engine", "trust", "context", "in / M tokens", "out / M tokens", "identity"],
      rows,
    ),
  );
}

function range(from: string, to: string): string {
  return from === to ? perMillion(from) : `${perMillion(from)} – ${perMillion(to)}`;
}
