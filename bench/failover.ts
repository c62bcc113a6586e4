/**
 * What clients see when servers are killed (-9) at random moments while they stream: errors, cuts that look like ends,
 * altered bytes, and the gap in the text. Real processes, exact and llama.cpp engines; ours, then Portkey's gateway over
 * the same engines behind OpenAI-compatible servers. 1,000 kills; `--quick`: 40; `--kills N`. The rival's are 100 at most
 * (`--rival-kills N`): it fails at the first ones already.
 */
import { parseArgs } from "node:util";
import {
  havoc,
  type Havoc,
  hiddenCut,
  Pool,
  preyOf,
  providersOf,
  untilAvailable,
  watchStream,
} from "../test/e2e/pool.ts";
import { eventually, killAll, skein, stop, temporaryHome } from "../test/e2e/processes.ts";
import { seededRandom } from "../src/util/random.ts";
import { portkeyVersion, startPortkey } from "./lib/portkey.ts";
import { freePort, startRivalPool } from "./lib/rival-pool.ts";
import { quantile } from "./lib/routing-load.ts";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    kills: { type: "string" },
    "rival-kills": { type: "string" },
    seed: { type: "string", default: "1" },
  },
});
const kills = Number(values.kills ?? (values.quick ? 40 : 1_000));
const rivalKills = Number(values["rival-kills"] ?? Math.min(100, kills));
const seed = Number(values.seed);
if (!(kills >= 2 && rivalKills >= 2 && Number.isInteger(seed)))
  throw new Error("--kills and --rival-kills are at least 2, --seed a whole number.");
const seeds = 8;
const tokens = 300;
const clients = 12;
const membersEach = 2;
/** Starting a killed process again takes most of it. */
const killTimeoutMs = 8_000;
const progressEveryMs = 10_000;
/** How often a kill is looked for at the gateway. */
const detectPollMs = 5;
const detectMaxMs = 5_000;
const prefillRuns = 20;

const q = (samples: readonly number[], share: number): number =>
  samples.length === 0 ? 0 : Math.round(quantile(samples, share));

function told(name: string, seen: Havoc): void {
  const { streams, errors, gapsMs } = seen;
  const hidden = errors.filter((error) => error === hiddenCut).length;
  console.log(
    `${name.padEnd(16)}${seen.kills} kills, ${streams} streams: ${errors.length} errors (${hidden} of them look like an end), ` +
      `${seen.altered} altered, ${seen.cuts} went on elsewhere, gap p50 ${q(gapsMs, 0.5)} ms, p99 ${q(gapsMs, 0.99)} ms`,
  );
  const counts = new Map<string, number>();
  for (const error of errors) counts.set(error, (counts.get(error) ?? 0) + 1);
  for (const [error, count] of counts) console.log(`  ${count} × ${error.slice(0, 200)}`);
}

const sum = (runs: readonly Havoc[], of: (one: Havoc) => number): number =>
  runs.reduce((total, one) => total + of(one), 0);

const home = temporaryHome();
const common = { clients, errorsMax: Number.POSITIVE_INFINITY, seeds };

/** Half of the kills for each engine, with how far it is on stderr. */
async function bothHavocs(
  name: string,
  total: number,
  run: (options: {
    until: { kills: number };
    timeoutMs: number;
    random: () => number;
    onKill: () => void;
  }) => Promise<Havoc[]>,
): Promise<readonly Havoc[]> {
  const random = seededRandom(seed);
  let done = 0;
  const progress = setInterval(() => console.error(`${name}: ${done} of ${total} kills`), progressEveryMs);
  try {
    return await run({
      until: { kills: Math.ceil(total / 2) },
      timeoutMs: total * killTimeoutMs,
      random: () => random.next(),
      onKill: () => (done += 1),
    });
  } finally {
    clearInterval(progress);
  }
}

interface Ours {
  readonly runs: readonly Havoc[];
  readonly expected: readonly string[];
  readonly detectMs: readonly number[];
  readonly prefillMs: readonly number[];
  readonly undisturbedGapsMs: readonly number[];
}

async function measureOurs(): Promise<Ours> {
  const gateway = skein(home.path, "gateway", "--port", "0", "--network-port", "0");
  try {
    const [url] = await gateway.printed(/http:\/\/127\.0\.0\.1:\d+/);
    const [exact, llama] = [new Pool(home.path, "exact", url), new Pool(home.path, "llama", url)];
    await Promise.all([exact.grow(membersEach), llama.grow(membersEach)]);
    await Promise.all([exact, llama].map(({ model }) => untilAvailable(url, model, membersEach)));
    // 1. Undisturbed: what answers are, and how long prompt and beginning of one take to be read again.
    const ask = (number: number) =>
      watchStream(url, { model: exact.model, seed: number, max_tokens: tokens });
    const undisturbed = await Promise.all(Array.from({ length: seeds }, (_, number) => ask(number)));
    const expected = undisturbed.map(({ text }) => text);
    const undisturbedGapsMs = undisturbed.map(({ gapMs }) => gapMs);
    const prefillMs: number[] = [];
    for (let i = 0; i < prefillRuns; i++) {
      const { model } = [exact, llama][i % 2]!;
      prefillMs.push(await readAgainMs(url, model, expected[i % seeds]!, i));
    }
    // 2. Killed at random.
    const detectMs: number[] = [];
    const preyIn = (pool: Pool) =>
      preyOf(url, pool, tokens, (id) => void detectedMs(url, pool.model, id).then((ms) => detectMs.push(ms)));
    const runs = await bothHavocs("ours", kills, (options) =>
      Promise.all([
        havoc(preyIn(exact), { ...common, ...options, expected }),
        havoc(preyIn(llama), { ...common, ...options, expected: null }),
      ]),
    );
    return { runs, expected, detectMs, prefillMs, undisturbedGapsMs };
  } finally {
    await stop(gateway).catch(() => undefined);
    await killAll();
  }
}

/** From the kill until the gateway knows. */
async function detectedMs(url: string, model: string, id: string): Promise<number> {
  const startMs = performance.now();
  while (performance.now() - startMs < detectMaxMs) {
    if ((await providersOf(url, model)).every((provider) => provider.id !== id)) break;
    await new Promise((resolve) => setTimeout(resolve, detectPollMs));
  }
  return performance.now() - startMs;
}

/** One token behind a prompt as long as half an answer, unknown to any cache. */
async function readAgainMs(url: string, model: string, text: string, salt: number): Promise<number> {
  const prompt = `${salt} ${text.slice(0, Math.floor(text.length / 2))}`;
  const startMs = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, prompt, max_tokens: 1 }),
  });
  if (!response.ok) throw new Error(await response.text());
  await response.arrayBuffer();
  return performance.now() - startMs;
}

/** Null: it could not be installed. */
async function measureRival(expected: readonly string[]): Promise<readonly Havoc[] | null> {
  let portkey: Awaited<ReturnType<typeof startPortkey>>;
  try {
    portkey = await startPortkey(await freePort());
  } catch (error) {
    console.log(`without the rival: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
  const random = seededRandom(seed);
  const given = { count: membersEach, tokens, cacheFolder: home.path, random: () => random.next() };
  const pools = await Promise.all([
    startRivalPool(portkey, { ...given, engine: "exact" }),
    startRivalPool(portkey, { ...given, engine: "llama" }),
  ]);
  try {
    await eventually("an answer", async () => ((await pools[0].ask(0)).error === null ? true : null));
    return await bothHavocs("rival", rivalKills, (options) =>
      Promise.all([
        havoc(pools[0], { ...common, ...options, expected }),
        havoc(pools[1], { ...common, ...options, expected: null }),
      ]),
    );
  } finally {
    for (const pool of pools) pool.close();
    portkey.stop();
  }
}

try {
  const ours = await measureOurs();
  told("ours, exact", ours.runs[0]!);
  told("ours, llama", ours.runs[1]!);
  const rival = await measureRival(ours.expected);
  rival?.forEach((seen, i) => told(`rival, ${["exact", "llama"][i]}`, seen));
  const gapsMs = ours.runs.flatMap((one) => one.gapsMs);
  const floorMs = q(ours.detectMs, 0.5) + q(ours.prefillMs, 0.5);
  console.log(
    `gap p50 ${q(gapsMs, 0.5)} ms; detection ${q(ours.detectMs, 0.5)} ms and reading again ${q(ours.prefillMs, 0.5)} ms explain ${floorMs} ms`,
  );
  const rivalErrors = rival?.flatMap(({ errors }) => errors) ?? [];
  console.log(
    JSON.stringify({
      trials: sum(ours.runs, (one) => one.kills),
      streams: sum(ours.runs, (one) => one.streams),
      streamsCut: sum(ours.runs, (one) => one.cuts),
      clientErrors: sum(ours.runs, (one) => one.errors.length),
      alteredBytes: sum(ours.runs, (one) => one.alteredBytes),
      gapMsP50: q(gapsMs, 0.5),
      gapMsP99: q(gapsMs, 0.99),
      gapMsMax: q(gapsMs, 1),
      detectMsP50: q(ours.detectMs, 0.5),
      detectMsP99: q(ours.detectMs, 0.99),
      prefillMsP50: q(ours.prefillMs, 0.5),
      gapOverFloorMsP50: q(gapsMs, 0.5) - floorMs,
      undisturbedGapMsMax: q(ours.undisturbedGapsMs, 1),
      ...(rival === null
        ? {}
        : {
            rivalTrials: sum(rival, (one) => one.kills),
            rivalStreams: sum(rival, (one) => one.streams),
            rivalClientErrors: rivalErrors.length,
            rivalHiddenCuts: rivalErrors.filter((error) => error === hiddenCut).length,
            rivalAlteredBytes: sum(rival, (one) => one.alteredBytes),
          }),
      runs: 1,
      seed,
      rival: `Portkey's gateway ${portkeyVersion}`,
    }),
  );
} finally {
  await killAll();
  home.remove();
}
