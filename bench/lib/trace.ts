/**
 * Recorded requests: when, how long the prompt, how long the answer. Two published formats are read: the Azure LLM
 * inference trace of 2023 (CSV: `TIMESTAMP,ContextTokens,GeneratedTokens`) and Mooncake's (JSONL with `timestamp`,
 * `input_length`, `output_length` and `hash_ids`, one per 512 tokens of the prompt).
 */
import { statSync, readFileSync } from "node:fs";
import { z } from "zod";

/** Tokens that one id of a prompt's blocks stands for. */
export const traceBlockTokens = 512;
/** A file is read whole. */
const traceBytesMax: number = 256 * 1024 * 1024;
const requestsMax = 1_000_000;
const tokensMax = 1_000_000;
const azureHeader = "TIMESTAMP,ContextTokens,GeneratedTokens";

export interface TracedRequest {
  /** Since the first request. */
  readonly atMs: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Equal blocks, equal text, of `traceBlockTokens` each, the last one shorter; null: not recorded. */
  readonly blocks: readonly number[] | null;
}

/** @throws Error saying which line is wrong, and why */
export function readTrace(path: string): TracedRequest[] {
  try {
    const { size } = statSync(path);
    if (size > traceBytesMax) throw new Error(`it has ${size} bytes; ${traceBytesMax} are read at most.`);
    return parseTrace(new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path)));
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** @throws Error saying which line is wrong, and why */
export function parseTrace(text: string): TracedRequest[] {
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  const isAzure = lines[0] === azureHeader;
  if (!isAzure && lines[0]?.startsWith("{") !== true) {
    throw new Error(
      `line 1 is neither the header "${azureHeader}" nor a JSON object: this is no trace of a known format.`,
    );
  }
  const count = lines.length - (isAzure ? 1 : 0);
  if (count === 0) throw new Error("there is no request in it.");
  if (count > requestsMax)
    throw new Error(`there are ${count} requests in it; ${requestsMax} are read at most.`);
  const parse = isAzure ? azureLine : mooncakeLine;
  const requests: TracedRequest[] = [];
  let startMs = 0;
  for (let i = isAzure ? 1 : 0; i < lines.length; i++) {
    const request = inLine(i + 1, () => parse(lines[i]!));
    if (requests.length === 0) startMs = request.atMs;
    const atMs = request.atMs - startMs;
    if (atMs < (requests.at(-1)?.atMs ?? 0))
      throw new Error(`line ${i + 1}: it is earlier than the one before.`);
    requests.push({ ...request, atMs });
  }
  return requests;
}

function inLine<T>(number: number, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new Error(`line ${number}: ${(error as Error).message}`, { cause: error });
  }
}

/** Whole tokens, at least one: a request without prompt or answer is none. */
function tokens(value: number, what: string): number {
  if (Number.isInteger(value) && value >= 1 && value <= tokensMax) return value;
  throw new Error(`${what} is ${value}, not a whole number from 1 to ${tokensMax}.`);
}

/** `2023-11-16 18:15:46.6805900,374,44`, in UTC; JavaScript's dates keep milliseconds only. */
function azureLine(line: string): TracedRequest {
  const match = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d{1,9})?,(\d+),(\d+)$/.exec(line);
  if (match === null) throw new Error(`"${line.slice(0, 80)}" is not "date time,tokens,tokens".`);
  const [, date, time, fraction, prompt, output] = match;
  const secondMs = Date.parse(`${date}T${time}Z`);
  if (Number.isNaN(secondMs)) throw new Error(`"${date} ${time}" is not a time.`);
  return {
    atMs: secondMs + 1000 * Number(fraction ?? 0),
    promptTokens: tokens(Number(prompt), "ContextTokens"),
    outputTokens: tokens(Number(output), "GeneratedTokens"),
    blocks: null,
  };
}

const mooncakeSchema = z.object({
  timestamp: z.number().min(0).max(Number.MAX_SAFE_INTEGER),
  input_length: z.number(),
  output_length: z.number(),
  hash_ids: z.array(z.int().min(0)).max(Math.ceil(tokensMax / traceBlockTokens)),
});

function mooncakeLine(line: string): TracedRequest {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new Error(`"${line.slice(0, 80)}" is not JSON.`, { cause: error });
  }
  const parsed = mooncakeSchema.safeParse(value);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    throw new Error(`${path.join(".")}: ${message}.`);
  }
  const { timestamp, input_length, output_length, hash_ids } = parsed.data;
  const promptTokens = tokens(input_length, "input_length");
  const due = Math.ceil(promptTokens / traceBlockTokens);
  if (hash_ids.length !== due) {
    throw new Error(`${hash_ids.length} hash_ids stand for ${promptTokens} tokens; ${due} would.`);
  }
  const outputTokens = tokens(output_length, "output_length");
  return { atMs: timestamp, promptTokens, outputTokens, blocks: hash_ids };
}

/** Share of all prompt tokens that a single cache without limits would hold, in order of arrival: nobody has more. */
export function cacheBound(trace: readonly TracedRequest[]): number {
  const seen = new Set<number>();
  let [cached, total] = [0, 0];
  for (const { promptTokens, blocks } of trace) {
    total += promptTokens;
    const missing = (blocks ?? []).findIndex((block) => !seen.has(block));
    const known = missing < 0 ? (blocks ?? []).length : missing;
    cached += Math.min(known * traceBlockTokens, promptTokens);
    for (const block of blocks ?? []) seen.add(block);
  }
  return cached / total;
}
