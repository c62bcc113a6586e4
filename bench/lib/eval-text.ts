/** Held-out conversations as token rows, as the demo models were trained on them. */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export interface EvalRow {
  readonly id: string;
  readonly tokenIds: readonly number[];
  /** Positions whose next token counts: contents and ends of turns. Roles are given, so no model is trained on them. */
  readonly scored: readonly number[];
}

export interface EvalOptions {
  /** Questions put into one conversation: more of them reach later positions. */
  readonly questionsPerRow: number;
  /** Score only the answers, not the questions. */
  readonly answersOnly: boolean;
  /** Rows at most, spread over the file. */
  readonly rowsMax?: number;
}

interface Item {
  readonly id: string;
  readonly prompt: string;
  readonly answer: string;
}

const models = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "models");
const evalFile = join(models, "eval.jsonl");
const heldOutFile = join(models, "held-out.jsonl");

type HeldOut =
  | { readonly text: string }
  | { readonly messages: readonly { readonly role: string; readonly content: string }[] };

/** Conversations and stories from the training corpus's generator with another seed: what perplexity is measured on. */
export async function loadHeldOutRows(
  tokenize: (text: string) => Promise<readonly number[]>,
  rowsMax: number,
  tokensMax: number,
): Promise<EvalRow[]> {
  const lines = (await readFile(heldOutFile, "utf8")).split("\n").filter((line) => line !== "");
  const rows: EvalRow[] = [];
  const count = Math.min(lines.length, rowsMax);
  for (let i = 0; i < count; i++) {
    const line = Math.floor((i * lines.length) / count);
    const document = JSON.parse(lines[line]!) as HeldOut;
    const row =
      "text" in document
        ? await textRow(document.text, tokenize)
        : await turnsRow(
            document.messages.map((message) => ({ ...message, counts: message.role !== "system" })),
            tokenize,
          );
    rows.push({
      id: `held-out ${line}`,
      tokenIds: row.tokenIds.slice(0, tokensMax),
      scored: row.scored.filter((position) => position + 1 < tokensMax),
    });
  }
  return rows;
}

/** `tokenize` must recognise control tokens. */
export async function loadEvalRows(
  tokenize: (text: string) => Promise<readonly number[]>,
  options: EvalOptions,
): Promise<EvalRow[]> {
  const lines = (await readFile(evalFile, "utf8")).split("\n").filter((line) => line !== "");
  const items = lines.map((line) => JSON.parse(line) as Item);
  // Kinds of questions stand together in the file; a stride mixes them within rows and keeps them in a selection.
  const groups = Math.floor(items.length / options.questionsPerRow);
  const rows: EvalRow[] = [];
  const count = Math.min(groups, options.rowsMax ?? groups);
  for (let i = 0; i < count; i++) {
    const group = Math.floor((i * groups) / count);
    const own = Array.from({ length: options.questionsPerRow }, (_, turn) => items[group + turn * groups]!);
    rows.push(await rowOf(own, tokenize, options.answersOnly));
  }
  return rows;
}

async function rowOf(
  items: readonly Item[],
  tokenize: (text: string) => Promise<readonly number[]>,
  answersOnly: boolean,
): Promise<EvalRow> {
  const turns = items.flatMap(({ prompt, answer }) => [
    { role: "user", content: prompt, counts: !answersOnly },
    { role: "assistant", content: answer, counts: true },
  ]);
  return { id: items[0]!.id, ...(await turnsRow(turns, tokenize)) };
}

interface Turn {
  readonly role: string;
  readonly content: string;
  readonly counts: boolean;
}

type Scored = Pick<EvalRow, "tokenIds" | "scored">;

async function turnsRow(
  turns: readonly Turn[],
  tokenize: (text: string) => Promise<readonly number[]>,
): Promise<Scored> {
  const tokenIds: number[] = [];
  const scored: number[] = [];
  for (const { role, content, counts } of turns) {
    tokenIds.push(...(await tokenize(`<|im_start|>${role}\n`)));
    const first = tokenIds.length;
    tokenIds.push(...(await tokenize(`${content}<|im_end|>`)));
    if (counts) for (let next = first; next < tokenIds.length; next++) scored.push(next - 1);
    tokenIds.push(...(await tokenize("\n")));
  }
  return { tokenIds, scored };
}

async function textRow(
  text: string,
  tokenize: (text: string) => Promise<readonly number[]>,
): Promise<Scored> {
  const tokenIds = await tokenize(`${text}<|endoftext|>`);
  return { tokenIds, scored: Array.from({ length: tokenIds.length - 1 }, (_, position) => position) };
}
