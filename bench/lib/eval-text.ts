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

const evalFile = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "models", "eval.jsonl");

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
  const tokenIds: number[] = [];
  const scored: number[] = [];
  const turns = items.flatMap(({ prompt, answer }) => [
    { role: "user", content: prompt, counts: !answersOnly },
    { role: "assistant", content: answer, counts: true },
  ]);
  for (const { role, content, counts } of turns) {
    tokenIds.push(...(await tokenize(`<|im_start|>${role}\n`)));
    const first = tokenIds.length;
    tokenIds.push(...(await tokenize(`${content}<|im_end|>`)));
    if (counts) for (let next = first; next < tokenIds.length; next++) scored.push(next - 1);
    tokenIds.push(...(await tokenize("\n")));
  }
  return { id: items[0]!.id, tokenIds, scored };
}
