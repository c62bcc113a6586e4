/** Providers that die and come back, and clients that watch what they get meanwhile. */
import type { ProviderView } from "../../src/protocol/gateway-api.ts";
import { eventually, type Running, skein, tinyModel } from "./processes.ts";

type Member = Running & { readonly id: string };

/** Providers of one model; each that ends is replaced by a new one. */
export class Pool {
  readonly model: string;
  readonly #start: () => Promise<Member>;
  #members: Member[] = [];
  #starting: Promise<void>[] = [];

  constructor(home: string, engine: "llama" | "exact", join: string) {
    this.model = engine === "exact" ? "tiny-exact" : "tiny";
    const args = ["--engine", engine, "--model", tinyModel, "--name", this.model, "--join", join, "--json"];
    const own = ["--parallel", "8", ...(engine === "llama" ? ["--threads", "1"] : [])];
    this.#start = async () => {
      const running = skein(home, "provide", ...args, ...own);
      const [, id] = await running.printed(/"type":"ready".*"id":"([^"]+)"/);
      await running.printed(/"type":"joined"/);
      return { ...running, id: id! };
    };
  }

  get members(): readonly Member[] {
    return this.#members;
  }

  async grow(count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, () => this.#add()));
  }

  async #add(): Promise<void> {
    const member = await this.#start();
    this.#members = [...this.#members, member];
  }

  /** Takes one out, and starts a new one in its place. */
  replace(id: string, signal: NodeJS.Signals): Promise<void> {
    this.remove(id, signal);
    const starting = this.#add();
    this.#starting.push(starting);
    return starting;
  }

  remove(id: string, signal: NodeJS.Signals): Member | undefined {
    const member = this.#members.find((other) => other.id === id);
    this.#members = this.#members.filter((other) => other !== member);
    member?.child.kill(signal);
    return member;
  }

  /** Resolves when all that were replaced are there again. */
  async complete(): Promise<void> {
    await Promise.all(this.#starting);
  }
}

export async function providersOf(url: string, model: string): Promise<ProviderView[]> {
  const { data } = (await (await fetch(`${url}/skein/v1/providers`)).json()) as { data: ProviderView[] };
  return data.filter(({ models }) => models.some(({ name }) => name === model));
}

export function untilAvailable(url: string, model: string, count: number): Promise<true> {
  return eventually(`${count} providers of ${model}`, async () => {
    const available = (await providersOf(url, model)).filter(({ state }) => state === "available");
    return available.length >= count ? true : null;
  });
}

/** What a client saw of one stream. */
export interface Seen {
  readonly id: string;
  readonly text: string;
  /** Null: the stream ended as it should. */
  readonly error: string | null;
  readonly attempts: number;
  readonly outputTokens: number;
  /** Longest wait between two pieces of text. */
  readonly gapMs: number;
}

export async function watchStream(
  url: string,
  body: { readonly model: string; readonly seed: number; readonly max_tokens: number },
  onText: (text: string) => void = () => undefined,
  headers: Readonly<Record<string, string>> = {},
): Promise<Seen> {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({
      prompt: "Once upon a time",
      temperature: 2,
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  const id = response.headers.get("x-request-id") ?? "";
  const seen = { id, text: "", attempts: 0, outputTokens: 0, gapMs: 0 };
  if (!response.ok) return { ...seen, error: await response.text() };
  let error: string | null = hiddenCut;
  let lastMs = 0;
  let rest = "";
  try {
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + part).split("\n\n");
      rest = lines.pop()!;
      for (const data of lines.map((line) => /^data: (.*)$/m.exec(line)?.[1] ?? "")) {
        if (data === "[DONE]") error = null;
        if (!data.startsWith("{")) continue;
        const chunk = JSON.parse(data);
        if (chunk.error !== undefined) error = JSON.stringify(chunk.error);
        seen.attempts = chunk.skein?.attempts ?? seen.attempts;
        seen.outputTokens = chunk.usage?.completion_tokens ?? seen.outputTokens;
        const text: string = chunk.choices?.[0]?.text ?? "";
        if (text === "") continue;
        const nowMs = performance.now();
        if (lastMs > 0) seen.gapMs = Math.max(seen.gapMs, nowMs - lastMs);
        lastMs = nowMs;
        seen.text += text;
        onText(seen.text);
      }
    }
  } catch (thrown) {
    error = String(thrown);
  }
  return { ...seen, error };
}

/** How a stream ends that was cut without an error: most clients take it for a whole one. */
export const hiddenCut = "it ended without [DONE]";

/** A service whose members may be killed while its clients read. */
export interface Prey {
  ask(seed: number): Promise<Seen>;
  /** Kills one that works, while another is there; its place is taken again. False: nobody may be killed now. */
  killOne(): Promise<boolean>;
  /** Resolves when all that were killed are there again. */
  complete(): Promise<void>;
}

/** A pool behind a gateway: the busiest is killed. @param onKill hears who, at once */
export function preyOf(
  url: string,
  pool: Pool,
  tokens: number,
  onKill: (id: string) => void = () => undefined,
): Prey {
  const { model } = pool;
  return {
    ask: (seed) => watchStream(url, { model, seed, max_tokens: tokens }),
    async killOne() {
      const all = await providersOf(url, model);
      const available = all.filter(({ state }) => state === "available");
      const [busiest] = available.toSorted((a, b) => b.active - a.active);
      if (available.length < 2 || busiest === undefined || busiest.active === 0) return false;
      if (!pool.members.some(({ id }) => id === busiest.id)) return false;
      void pool.replace(busiest.id, "SIGKILL");
      onKill(busiest.id);
      return true;
    },
    complete: () => pool.complete(),
  };
}

export interface Havoc {
  readonly streams: number;
  /** Streams that went on elsewhere. */
  readonly cuts: number;
  readonly kills: number;
  readonly errors: readonly string[];
  /** Answers that differ from the undisturbed one. */
  readonly altered: number;
  /** Bytes of them that are not what and where they should be. */
  readonly alteredBytes: number;
  readonly gapsMs: readonly number[];
}

/**
 * Lets `clients` ask again and again and kills somebody at random moments, until so many streams have gone on elsewhere
 * (`cuts`), or so many were killed.
 */
export async function havoc(
  prey: Prey,
  options: {
    readonly clients: number;
    readonly until: { readonly cuts: number } | { readonly kills: number };
    readonly errorsMax: number;
    readonly random: () => number;
    readonly onKill?: () => void;
    /** By seed; null: answers of this engine may change where they are cut. */
    readonly expected: readonly string[] | null;
    readonly seeds: number;
    readonly timeoutMs: number;
  },
): Promise<Havoc> {
  const { until } = options;
  const endMs = performance.now() + options.timeoutMs;
  const errors: string[] = [];
  const gapsMs: number[] = [];
  let [streams, cuts, kills, altered, alteredBytes] = [0, 0, 0, 0, 0];
  const isDone = (): boolean => ("cuts" in until ? cuts >= until.cuts : kills >= until.kills);
  const isOver = (): boolean => isDone() || errors.length > options.errorsMax || performance.now() > endMs;
  const client = async (number: number): Promise<void> => {
    for (let i = number; !isOver(); i++) {
      const seed = i % options.seeds;
      const seen = await prey.ask(seed);
      streams += 1;
      if (seen.error !== null) errors.push(seen.error);
      else if (options.expected !== null) {
        const different = differentBytes(seen.text, options.expected[seed]!);
        alteredBytes += different;
        if (different > 0) altered += 1;
      }
      if (seen.attempts < 2) continue;
      cuts += seen.attempts - 1;
      gapsMs.push(seen.gapMs);
    }
  };
  const killer = async (): Promise<void> => {
    while (!isOver()) {
      await new Promise((resolve) => setTimeout(resolve, 50 + options.random() * 400));
      if (!(await prey.killOne())) continue;
      kills += 1;
      options.onKill?.();
    }
  };
  await Promise.all([killer(), ...Array.from({ length: options.clients }, (_, number) => client(number))]);
  await prey.complete();
  return { streams, cuts, kills, errors, altered, alteredBytes, gapsMs };
}

function differentBytes(a: string, b: string): number {
  const [x, y] = [Buffer.from(a), Buffer.from(b)];
  const common = Math.min(x.length, y.length);
  let different = Math.max(x.length, y.length) - common;
  for (let i = 0; i < common; i++) if (x[i] !== y[i]) different += 1;
  return different;
}
