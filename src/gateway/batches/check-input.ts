/** The first look at a batch's input: what is wrong is said line by line, before anything is asked. */
import { SkeinError } from "../../util/errors.ts";
import type { BatchError } from "./batch.ts";
import { checkLine, type RawLine, readLines } from "./lines.ts";
import { type LineResult, neverAsked } from "./results.ts";
import type { Random } from "../../util/random.ts";
import { toHex } from "../../util/bytes.ts";

/** More take several batches; each line is remembered while a batch runs. */
export const batchLinesMax = 200_000;
/** Errors that a failed batch shows itself. */
const errorsShownMax = 100;

export interface CheckedInput {
  readonly total: number;
  readonly invalid: number;
  /** The first ones. */
  readonly errors: readonly BatchError[];
  /** Of the first good line. */
  readonly model: string | null;
}

/**
 * @param refuse keeps what is wrong with a line
 * @param requireModel throws when nobody knows the model
 * @throws SkeinError `invalid_request` when the file as a whole is wrong
 */
export async function checkInput(
  file: AsyncIterable<Uint8Array>,
  endpoint: string,
  random: Random,
  {
    refuse,
    requireModel,
  }: {
    refuse: (number: number, result: LineResult) => Promise<void>;
    requireModel: (model: string) => Promise<void>;
  },
): Promise<CheckedInput> {
  const seen = new Set<string>();
  const errors: BatchError[] = [];
  let total = 0;
  let invalid = 0;
  let model: string | null = null;
  for await (const raw of readLines(file)) {
    total += 1;
    if (total > batchLinesMax) throw tooMany();
    const wrong = await wrongWith(raw, endpoint, random, seen, async (name) => {
      await requireModel(name);
      model ??= name;
    });
    if (wrong === null) continue;
    invalid += 1;
    if (errors.length < errorsShownMax) errors.push(wrong.error);
    await refuse(raw.number, neverAsked(wrong.customId, toHex(random.bytes(12)), wrong.error));
  }
  if (total === 0) throw new SkeinError("invalid_request", "The input file has no lines.");
  return { total, invalid, errors, model };
}

async function wrongWith(
  raw: RawLine,
  endpoint: string,
  random: Random,
  seen: Set<string>,
  requireModel: (model: string) => Promise<void>,
): Promise<{ customId: string | null; error: BatchError } | null> {
  let customId: string | null = null;
  try {
    const { request } = checkLine(raw, endpoint, random, (given) => (customId = given));
    if (seen.has(customId!)) {
      throw new SkeinError("invalid_request", "Another line has the same 'custom_id'.", {
        param: "custom_id",
      });
    }
    seen.add(customId!);
    await requireModel(request.model);
    return null;
  } catch (error) {
    if (!(error instanceof SkeinError)) throw error;
    const { code, text: message, param = null } = error;
    return { customId, error: { code, message, param, line: raw.fileLine } };
  }
}

function tooMany(): SkeinError {
  return new SkeinError("invalid_request", `The input file has more than ${batchLinesMax} lines.`, {
    hint: "Divide it into several batches.",
  });
}
