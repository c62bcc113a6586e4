import type { Command } from "commander";
import { printableJson, printableLine } from "../../util/printable.ts";
import { contextOf } from "../context.ts";
import { modelOrFirst } from "../conversation.ts";
import { shortId, table } from "../terminal.ts";

/** `skein quote` */
export async function quote(words: string[], command: Command): Promise<void> {
  const context = contextOf(command);
  const client = context.client();
  const view = await client.quote({
    model: await modelOrFirst(client, context.flags["model"]),
    messages: [{ role: "user", content: words.join(" ") }],
    ...(context.flags["trust"] === undefined ? {} : { skein: { trust: context.flags["trust"] as string } }),
    ...(context.flags["maxTokens"] === undefined ? {} : { max_tokens: context.flags["maxTokens"] as number }),
  });
  if (context.flags["json"] === true) {
    console.log(printableJson(view));
    return;
  }
  console.log(
    `${printableLine(view.model)}: ${view.input_tokens} tokens in, at most ${view.output_tokens_max} out\n`,
  );
  const rows = view.offers.map(({ provider, engine, fee_min: least, fee_max: most }) => [
    shortId(provider),
    engine,
    `$${least.usd}`,
    `$${most.usd}`,
    most.cloud === undefined ? "–" : `$${most.cloud.usd} (${most.cloud.name})`,
  ]);
  const { asked } = view.trust;
  if (asked?.startsWith("replicated:") === true) {
    const { fee_min: least, fee_max: most } = view.total;
    console.log(`${asked}: all answers together cost from $${least.usd} to $${most.usd}\n`);
  }
  console.log(table(["provider", "engine", "question alone", "with the longest answer", "a cloud"], rows));
}
