/** Servers that are killed at random moments while clients read, and what these clients see. */
import type { ProviderView, RequestView } from "../../src/protocol/gateway-api.ts";
import { type Pool, providersOf } from "./pool.ts";
import { type Question, type Seen, watchStream } from "./watch-stream.ts";

/** A service whose members may be killed while its clients read. */
export interface Prey {
  ask(question: Question, signal: AbortSignal): Promise<Seen>;
  /**
   * Kills one that works, while one more is there, and `more` others where there are so many at all; its place is taken
   * again. False: not now.
   */
  killOne(more: number): Promise<boolean>;
  /** How many attempts of a stream brought no text; null: nobody knows. */
  fruitlessCuts(seen: Seen): Promise<number | null>;
  /** What the service knows of a stream, for people. */
  explain(seen: Seen): Promise<string>;
}

/** Most streams are cut then. */
export function busiest(busy: readonly ProviderView[]): ProviderView | undefined {
  return busy.toSorted((a, b) => b.active - a.active)[0];
}

/**
 * A pool behind a gateway: one that streams is killed.
 *
 * @param choose who is killed of those that stream
 * @param hear.onKill hears who, at once
 * @param hear.onProblem hears of one whose place nobody takes
 */
export function preyOf(
  url: string,
  pool: Pool,
  choose: (busy: readonly ProviderView[]) => ProviderView | undefined,
  hear: { readonly onKill?: (id: string) => void; readonly onProblem?: (text: string) => void } = {},
): Prey {
  const { model } = pool;
  const replace = (id: string): void => {
    pool.replace(id, "SIGKILL").catch((error: unknown) => {
      hear.onProblem?.(`a provider did not start: ${String(error)}`);
    });
  };
  const view = async ({ id }: Seen): Promise<Response> => fetch(`${url}/v1/requests/${id}`);
  return {
    ask: (question, signal) => watchStream(url, { ...question, model }, undefined, { signal }),
    async killOne(more) {
      const all = await providersOf(url, model);
      const mine = all.filter(({ id }) => pool.members.some((member) => member.id === id));
      const available = mine.filter(({ state }) => state === "available");
      const busy = available.filter(({ active }) => active > 0);
      const victim = choose(busy);
      if (available.length < Math.max(2, Math.min(2 + more, pool.size)) || victim === undefined) return false;
      replace(victim.id);
      hear.onKill?.(victim.id);
      return true;
    },
    async fruitlessCuts(seen) {
      // Decisions do not say which choice they are for.
      if (seen.texts.length > 1) return null;
      const response = await view(seen);
      if (!response.ok) return null;
      const { decisions } = (await response.json()) as RequestView;
      const startsMs = decisions.filter(({ moved }) => moved === null).map(({ at_ms: atMs }) => atMs);
      const isFruitless = (fromMs: number, i: number): boolean => {
        const endMs = startsMs[i + 1];
        return endMs !== undefined && !seen.arrivalsMs.some((ms) => ms > fromMs && ms < endMs);
      };
      return startsMs.filter(isFruitless).length;
    },
    async explain(seen) {
      return await (await view(seen)).text();
    },
  };
}

/** An answer that nobody disturbed. */
export interface Expected {
  readonly texts: readonly string[];
  readonly outputTokens: number;
}

export interface Havoc {
  readonly streams: number;
  /** Attempts of streams that went on elsewhere. */
  readonly cuts: number;
  /** Of these, as far as it is known, those that had brought no text yet: while they read the prompt, or right after another cut. */
  readonly fruitlessCuts: number;
  readonly kills: number;
  readonly errors: readonly string[];
  /** Answers that differ from the undisturbed one. */
  readonly altered: number;
  /** Bytes of them that are not what and where they should be. */
  readonly alteredBytes: number;
  readonly gapsMs: readonly number[];
}

export interface HavocOptions {
  readonly clients: number;
  readonly questions: readonly Question[];
  /** By question; null: answers of this engine may change where they are cut. */
  readonly expected: readonly Expected[] | null;
  /** It is over when so many streams have gone on elsewhere (`cuts`), or so many were killed. */
  readonly until: { readonly cuts: number } | { readonly kills: number };
  readonly errorsMax: number;
  /** Before each kill, at most: streams get somewhere meanwhile. */
  readonly pauseMaxMs: number;
  readonly random: () => number;
  readonly timeoutMs: number;
  /** Hears at once of what a client should not have seen. */
  readonly onProblem?: (text: string) => void;
}

/** A stream that takes longer hangs. */
const streamTimeoutMs = 120_000;
/** Until somebody may be killed. */
const retryMs = 100;
/** Share of kills that are followed by another one… */
const twiceShare = 0.25;
/** …within this time: what was cut is being read again then. */
const twiceMaxMs = 150;
/** Excerpts of what was not as it should be. */
const excerptChars = 60;
const explanationChars = 6_000;

/** Lets clients ask again and again and kills somebody at random moments; `seen` grows meanwhile. */
export function startHavoc(
  prey: Prey,
  options: HavocOptions,
): { readonly seen: Havoc; readonly done: Promise<void> } {
  const { until, questions, random } = options;
  const startMs = performance.now();
  const seen: Noted = { ...nothing, errors: [], gapsMs: [] };
  const isDone = (): boolean => ("cuts" in until ? seen.cuts >= until.cuts : seen.kills >= until.kills);
  const isOver = (): boolean =>
    isDone() || seen.errors.length > options.errorsMax || performance.now() - startMs > options.timeoutMs;
  const client = async (number: number): Promise<void> => {
    for (let i = number; !isOver(); i++) {
      const question = i % questions.length;
      const stream = await prey.ask(questions[question]!, AbortSignal.timeout(streamTimeoutMs));
      const problem = note(seen, stream, options.expected?.[question]);
      if (problem !== null) {
        const atSeconds = ((performance.now() - startMs) / 1000).toFixed(1);
        const what = `${stream.id} after ${atSeconds} s and ${seen.kills} kills: ${problem}`;
        options.onProblem?.(`${what}\n${await circumstances(prey, questions[question]!, stream)}`);
      }
      if (stream.attempts > 1) {
        seen.fruitlessCuts += (await prey.fruitlessCuts(stream).catch(() => null)) ?? 0;
      }
    }
  };
  const kill = async (more: number): Promise<boolean> => {
    if (isOver() || !(await prey.killOne(more))) return false;
    seen.kills += 1;
    return true;
  };
  const killer = async (): Promise<void> => {
    let more = 0;
    while (!isOver()) {
      await pause(random() * options.pauseMaxMs);
      while (!isOver() && !(await kill(more))) await pause(retryMs);
      if (more > 0) await pause(random() * twiceMaxMs);
      if (more > 0) await kill(0);
      more = random() < twiceShare ? 1 : 0;
    }
  };
  const clients = Array.from({ length: options.clients }, (_, number) => client(number));
  return { seen, done: Promise.all([killer(), ...clients]).then(() => undefined) };
}

type Noted = { -readonly [Key in keyof Havoc]: Havoc[Key] } & { errors: string[]; gapsMs: number[] };
const nothing = { streams: 0, cuts: 0, fruitlessCuts: 0, kills: 0, altered: 0, alteredBytes: 0 };

/** Counts a stream. Returns what a client should not have seen; null: nothing. */
function note(seen: Noted, stream: Seen, expected: Expected | undefined): string | null {
  seen.streams += 1;
  if (stream.attempts > 1) {
    seen.cuts += stream.attempts - 1;
    seen.gapsMs.push(stream.gapMs);
  }
  if (stream.error !== null) seen.errors.push(stream.error);
  if (stream.error !== null || expected === undefined) return stream.error;
  const difference = compare(stream, expected);
  if (difference === null) return null;
  seen.altered += 1;
  seen.alteredBytes += difference.bytes;
  return difference.text;
}

async function circumstances(prey: Prey, question: Question, stream: Seen): Promise<string> {
  const saw = { question, ...stream, arrivalsMs: stream.arrivalsMs.slice(-1) };
  const known = await prey.explain(stream).catch(String);
  return `  saw: ${JSON.stringify(saw)}\n  known: ${known.slice(0, explanationChars)}`;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Null: it is as it should be. */
function compare(stream: Seen, expected: Expected): { readonly bytes: number; readonly text: string } | null {
  let bytes = 0;
  let text = "";
  expected.texts.forEach((whole, choice) => {
    const [is, should] = [stream.texts[choice] ?? "", whole].map((one) => Buffer.from(one));
    const different = differentBytes(is!, should!);
    bytes += different;
    if (different === 0 || text !== "") return;
    const first = is!.findIndex((byte, i) => byte !== should![i]);
    const at = first < 0 ? is!.length : first;
    const excerpt = (one: Buffer): string => JSON.stringify(one.subarray(at, at + excerptChars).toString());
    text = `choice ${choice} differs from byte ${at} on: ${excerpt(is!)} instead of ${excerpt(should!)}`;
  });
  if (bytes === 0 && stream.outputTokens !== expected.outputTokens) {
    text = `usage says ${stream.outputTokens} tokens instead of ${expected.outputTokens}`;
  }
  return text === "" ? null : { bytes, text };
}

function differentBytes(x: Buffer, y: Buffer): number {
  const common = Math.min(x.length, y.length);
  let different = Math.max(x.length, y.length) - common;
  for (let i = 0; i < common; i++) if (x[i] !== y[i]) different += 1;
  return different;
}
