/** The conversation in a terminal: questions line by line, answers as they come, Ctrl-C. */
import { createInterface, type Interface } from "node:readline/promises";
import { SkeinError, toSkeinError } from "../util/errors.ts";
import { printable, printableLine } from "../util/printable.ts";
import { ask, type Conversation, obey } from "./conversation.ts";
import { styled } from "./terminal.ts";

export interface Terminal {
  readonly input: NodeJS.ReadableStream;
  readonly output: NodeJS.WriteStream;
  /** What is not part of the conversation. */
  readonly notes: NodeJS.WriteStream;
}

/** Resolves when the person leaves: /exit, Ctrl-D, or Ctrl-C twice. */
export async function converse(conversation: Conversation, terminal: Terminal): Promise<void> {
  const { input, output, notes } = terminal;
  const note = (text: string): void => void notes.write(`${styled("dim", text, notes)}\n`);
  const { model, client } = conversation;
  note(`${printableLine(model)} at ${client.baseUrl} · /exit ends, /reset forgets`);
  const lines = createInterface({ input, output, prompt: "› " });
  let answering: AbortController | null = null;
  let interrupts = 0;
  let isClosed = false;
  let isLeaving = false;
  lines.on("close", () => (isClosed = true));
  lines.on("SIGINT", () => {
    // Typed text goes first, then the answer that runs; with neither it takes a second one to leave.
    if (lines.line !== "") return clearTyped(lines);
    isLeaving = interrupts > 0;
    interrupts += 1;
    answering?.abort(new SkeinError("cancelled", "Stopped."));
    if (isLeaving) lines.close();
    else if (answering === null) {
      note("\n(Ctrl-C again, or /exit, to leave)");
      lines.prompt();
    }
  });
  lines.prompt();
  for await (const line of lines) {
    interrupts = 0;
    const text = line.trim();
    if (text === "/exit" || text === "/quit") break;
    if (text.startsWith("/")) {
      if (!obey(conversation, text)) note("There are /model NAME, /system TEXT, /reset and /exit.");
    } else if (text !== "") {
      answering = new AbortController();
      await answerOne(conversation, text, answering.signal, output);
      answering = null;
    }
    if (isLeaving) break;
    interrupts = 0;
    // Ctrl-D during an answer has closed it.
    if (!isClosed) lines.prompt();
  }
  // The shell's prompt begins a line of its own.
  if (isClosed) output.write("\n");
  else lines.close();
}

function clearTyped(lines: Interface): void {
  lines.write(null, { ctrl: true, name: "e" });
  lines.write(null, { ctrl: true, name: "u" });
}

async function answerOne(
  conversation: Conversation,
  question: string,
  signal: AbortSignal,
  output: NodeJS.WriteStream,
): Promise<void> {
  try {
    const { note } = await ask(conversation, question, signal, (part) => output.write(printable(part)));
    output.write(`\n${styled("dim", note, output)}\n`);
  } catch (error) {
    const failure = toSkeinError(error);
    const color = failure.code === "cancelled" ? "dim" : "red";
    output.write(`${styled(color, `\n${printableLine(failure.text)}`, output)}\n`);
  }
}
