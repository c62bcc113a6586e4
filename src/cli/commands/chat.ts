import { text as readAll } from "node:stream/consumers";
import type { Command } from "commander";
import { SkeinError } from "../../util/errors.ts";
import { printable, printableJson } from "../../util/printable.ts";
import { type Context, contextOf } from "../context.ts";
import { ask, type Conversation, modelOrFirst } from "../conversation.ts";
import { converse } from "../converse.ts";
import { styled } from "../terminal.ts";

/** `skein chat` */
export async function chat(words: string[], command: Command): Promise<void> {
  const context = contextOf(command);
  const conversation = await begin(context);
  const question =
    words.length > 0 ? words.join(" ") : process.stdin.isTTY ? null : (await readAll(process.stdin)).trim();
  if (question === null) {
    const { stdin: input, stdout: output, stderr: notes } = process;
    return converse(conversation, { input, output, notes });
  }
  if (question === "")
    throw new SkeinError("invalid_config", "There is no question.", {
      hint: 'skein chat "What sound does a cow make?"',
    });
  const asJson = context.flags["json"] === true;
  const stopping = new AbortController();
  process.once("SIGINT", () => stopping.abort(new SkeinError("cancelled", "Stopped.")));
  const { text, end, note } = await ask(conversation, question, stopping.signal, (part) => {
    if (!asJson) process.stdout.write(printable(part));
  });
  if (asJson) console.log(printableJson({ model: conversation.model, text, ...end }));
  else console.log();
  if (!asJson) console.error(styled("dim", note, process.stderr));
}

async function begin(context: Context): Promise<Conversation> {
  const { flags } = context;
  const client = context.client();
  return {
    client,
    model: await modelOrFirst(client, flags["model"]),
    system: (flags["system"] as string | undefined) ?? null,
    messages: [],
    options: {
      ...numberFlag(flags, "temperature", "temperature"),
      ...numberFlag(flags, "maxTokens", "max_tokens"),
      ...numberFlag(flags, "seed", "seed"),
    },
  };
}

function numberFlag(flags: Context["flags"], key: string, name: string): Record<string, number> {
  const value = flags[key];
  return typeof value === "number" ? { [name]: value } : {};
}
