/**
 * What clients see when servers are killed (-9) at random moments while they stream: errors, cuts that look like ends,
 * altered bytes, and the gap in the text. Real processes, exact and llama.cpp engines; ours, then Portkey's gateway over
 * the same engines behind OpenAI-compatible servers. 1,000 kills; `--quick`: 40; `--kills N`. The rival's are 100 at most
 * (`--rival-kills N`, 0 for none): it fails at the first ones already. `--minutes N`: fewer where that takes longer. Interrupted, it
 * prints what it has.
 */
import { constants } from "node:os";
import { parseArgs } from "node:util";
import { type Havoc, type Prey, preyOf, startHavoc } from "../test/e2e/havoc.ts";
import { Pool, providersOf, untilAvailable } from "../test/e2e/pool.ts";
import { eventually, killAll, skein, stop, temporaryHome } from "../test/e2e/processes.ts";
import { hiddenCut } from "../test/e2e/watch-stream.ts";
import { seededRandom } from "../src/util/random.ts";
import { type Asked, askUndisturbed } from "./lib/failover-questions.ts";
import { portkeyVersion, startPortkey } from "./lib/portkey.ts";
import { freePort, startRivalPool } from "./lib/rival-pool.ts";
import { quantile } from "./lib/routing-load.ts";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    kills: { type: "string" },
    "rival-kills": { type: "string" },
    minutes: { type: "string" },
    seed: { type: "string", default: "1" },
  },
});
const kills = Number(values.kills ?? (values.quick ? 40 : 1_000));
const rivalKills = Number(values["rival-kills"] ?? Math.min(100, kills));
const minutes = Number(values.minutes ?? Number.POSITIVE_INFINITY);
const seed = Number(values.seed);
if (!(kills >= 2 && rivalKills >= 0 && minutes > 0 && Number.isInteger(seed)))
  throw new Error("--kills is at least 2, --rival-kills 0, --minutes is above 0, --seed a whole number.");
/** Of each engine. */
const clients = 4;
/** Of each engine: while two are there, one may be killed, and others are starting again. */
const membersEach = 3;
/** Sooner after each other, kills make processes start all the time, and the gap shows little but that. */
const pauseMaxMs = 3_000;
/** Starting a killed process again takes most of it. */
const killTimeoutMs = 8_000;
const progressEveryMs = 10_000;
/** How often a kill is looked for at the gateway. */
const detectPollMs = 20;
const detectMaxMs = 5_000;
const prefillRuns = 20;
const prefillBusyEveryMs = 1_000;
const engines = ["exact", "llama"] as const;

const q = (samples: readonly number[], share: number): number =>
  samples.length === 0 ? 0 : Math.round(quantile(samples, share));
const sum = (runs: readonly Havoc[], of: (one: Havoc) => number): number =>
  runs.reduce((total, one) => total + of(one), 0);
const interrupted = new AbortController();
/** What becomes of those that an interrupted run leaves behind is of no interest. */
const problem = (text: string): void => {
  if (!interrupted.signal.aborted) console.error(`PROBLEM ${text}`);
};

/** What is known so far; both engines each. */
const found = {
  ours: [] as readonly Havoc[],
  rival: [] as readonly Havoc[],
  /** Requests that measure, and processes that did not start: not in the streams' errors. */
  otherErrors: 0,
  /** How long the kills took. */
  oursMs: () => 0,
  detectMs: [] as number[],
  prefillMs: [] as number[],
  prefillBusyMs: [] as number[],
  undisturbedGapsMs: [] as readonly number[],
};
const home = temporaryHome();

/** Half of the kills for each engine, with how far it is on stderr. */
async function bothHavocs(
  name: "ours" | "rival",
  total: number,
  preys: readonly Prey[],
  asked: Asked,
): Promise<void> {
  const random = seededRandom(seed);
  const startMs = performance.now();
  const share = total / (kills + rivalKills);
  const limitMs = minutes * 60_000 * share;
  if (name === "ours") found.oursMs = () => performance.now() - startMs;
  const begun = preys.map((prey, i) =>
    startHavoc(prey, {
      clients,
      questions: asked.questions,
      expected: engines[i] === "exact" ? asked.expected : null,
      until: { kills: i === 0 ? Math.ceil(total / 2) : Math.floor(total / 2) },
      errorsMax: Number.POSITIVE_INFINITY,
      pauseMaxMs,
      random: () => random.next(),
      timeoutMs: Math.min(limitMs, total * killTimeoutMs),
      // The rival's are many, and its own affair.
      ...(name === "ours" ? { onProblem: problem } : {}),
    }),
  );
  const seen = begun.map((one) => one.seen);
  found[name] = seen;
  const progress = setInterval(() => {
    const tookMs = performance.now() - startMs;
    const done = sum(seen, (one) => one.kills);
    const perKillMs = tookMs / Math.max(1, done);
    const each = seen.map((one, i) => `${engines[i]} ${one.kills}`).join(", ");
    const errors = sum(seen, (one) => one.errors.length);
    const end = `${(perKillMs / 1000).toFixed(2)} s each, about ${Math.ceil(((total - done) * perKillMs) / 60_000)} min to go`;
    console.error(
      `${name}: ${done} of ${total} kills (${each}), ${errors} errors, ${sum(seen, (one) => one.altered)} altered; ${end}`,
    );
  }, progressEveryMs);
  try {
    await Promise.all(begun.map(({ done }) => done));
  } finally {
    clearInterval(progress);
    const tookMs = performance.now() - startMs;
    if (name === "ours") found.oursMs = () => tookMs;
  }
}

/** Returns what the questions' answers are. */
async function measureOurs(): Promise<Asked> {
  const gateway = skein(home.path, "gateway", "--port", "0", "--network-port", "0");
  try {
    const [url] = await gateway.printed(/http:\/\/127\.0\.0\.1:\d+/);
    const pools = engines.map((engine) => new Pool(home.path, engine, url));
    await Promise.all(pools.map((pool) => pool.grow(membersEach)));
    await Promise.all(pools.map(({ model }) => untilAvailable(url, model, membersEach)));
    // 1. Undisturbed: what answers are, and how long prompt and beginning of one take to be read again.
    const asked = await askUndisturbed(url, pools[0]!.model);
    found.undisturbedGapsMs = asked.gapsMs;
    const text = asked.expected[0]!.texts[0]!;
    for (let i = 0; i < prefillRuns; i++) {
      const ms = await readAgainMs(url, pools[i % 2]!.model, text, i);
      if (ms !== null) found.prefillMs.push(ms);
    }
    // 2. Killed at random, with a client that measures beside the others.
    const random = seededRandom(seed + 1);
    const preys = pools.map((pool) =>
      preyOf(url, pool, (busy) => busy[Math.floor(random.next() * busy.length)], {
        onKill: (id) => void detectedMs(url, pool.model, id).then((ms) => found.detectMs.push(ms)),
        onProblem: otherError,
      }),
    );
    const over = new AbortController();
    const measure = async (): Promise<void> => {
      for (let salt = prefillRuns; !over.signal.aborted; salt++) {
        const ms = await readAgainMs(url, pools[salt % 2]!.model, text, salt).catch(otherError);
        if (typeof ms === "number") found.prefillBusyMs.push(ms);
        await new Promise((resolve) => setTimeout(resolve, prefillBusyEveryMs));
      }
    };
    const measured = measure();
    await bothHavocs("ours", kills, preys, asked);
    over.abort();
    await Promise.all([measured, ...pools.map((pool) => pool.complete())]);
    return asked;
  } finally {
    await stop(gateway).catch(() => undefined);
    await killAll();
  }
}

function otherError(error: unknown): void {
  found.otherErrors += 1;
  problem(String(error));
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

/** One token behind a prompt as long as half an answer, unknown to any cache; null: it was cut. */
async function readAgainMs(url: string, model: string, text: string, salt: number): Promise<number | null> {
  const prompt = `${salt} ${text.slice(0, Math.floor(text.length / 2))}`;
  const startMs = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, prompt, max_tokens: 1 }),
  });
  if (!response.ok) throw new Error(await response.text());
  const { skein: served } = (await response.json()) as { skein: { attempts: number } };
  return served.attempts > 1 ? null : performance.now() - startMs;
}

/** Measures nothing when it cannot be installed. */
async function measureRival(asked: Asked): Promise<void> {
  let portkey: Awaited<ReturnType<typeof startPortkey>>;
  try {
    portkey = await startPortkey(await freePort());
  } catch (error) {
    console.log(`without the rival: ${error instanceof Error ? error.message : String(error)}`);
    return;
  }
  const random = seededRandom(seed);
  const given = { count: membersEach, cacheFolder: home.path, random: () => random.next() };
  const pools = await Promise.all(engines.map((engine) => startRivalPool(portkey, { ...given, engine })));
  process.once("exit", () => pools.forEach((pool) => pool.close()));
  try {
    const probe = (): Promise<{ error: string | null }> =>
      pools[0]!.ask(asked.questions[0]!, AbortSignal.timeout(detectMaxMs));
    await eventually("an answer", async () => ((await probe()).error === null ? true : null));
    await bothHavocs("rival", rivalKills, pools, asked);
  } finally {
    for (const pool of pools) pool.close();
    portkey.stop();
  }
}

function tell(name: string, seen: Havoc): void {
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

/** All there is at this moment. */
function printResult(): void {
  const { ours, rival, detectMs, prefillMs, prefillBusyMs } = found;
  ours.forEach((seen, i) => tell(`ours, ${engines[i]}`, seen));
  rival.forEach((seen, i) => tell(`rival, ${engines[i]}`, seen));
  const gapsMs = ours.flatMap((one) => one.gapsMs);
  const floorMs = q(detectMs, 0.5) + q(prefillBusyMs, 0.5);
  console.log(
    `gap p50 ${q(gapsMs, 0.5)} ms; detection ${q(detectMs, 0.5)} ms and reading again ${q(prefillBusyMs, 0.5)} ms in the same load (${q(prefillMs, 0.5)} ms without) explain ${floorMs} ms`,
  );
  const rivalErrors = rival.flatMap(({ errors }) => errors);
  const trials = sum(ours, (one) => one.kills);
  const result = {
    trials,
    trialsExact: ours[0]?.kills ?? 0,
    streams: sum(ours, (one) => one.streams),
    streamsCut: sum(ours, (one) => one.cuts),
    cutsBeforeText: sum(ours, (one) => one.fruitlessCuts),
    clientErrors: sum(ours, (one) => one.errors.length) + found.otherErrors,
    alteredAnswers: sum(ours, (one) => one.altered),
    alteredBytes: sum(ours, (one) => one.alteredBytes),
    gapMsP50: q(gapsMs, 0.5),
    gapMsP99: q(gapsMs, 0.99),
    gapMsMax: q(gapsMs, 1),
    gapExactMsP50: q(ours[0]?.gapsMs ?? [], 0.5),
    gapLlamaMsP50: q(ours[1]?.gapsMs ?? [], 0.5),
    detectMsP50: q(detectMs, 0.5),
    detectMsP99: q(detectMs, 0.99),
    prefillMsP50: q(prefillMs, 0.5),
    prefillBusyMsP50: q(prefillBusyMs, 0.5),
    prefillBusyMsP99: q(prefillBusyMs, 0.99),
    gapOverFloorMsP50: q(gapsMs, 0.5) - floorMs,
    undisturbedGapMsMax: q(found.undisturbedGapsMs, 1),
    secondsPerKill: Number((found.oursMs() / 1000 / Math.max(1, trials)).toFixed(2)),
    ...(rival.length === 0
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
  };
  console.log(JSON.stringify(result));
  if (result.clientErrors > 0 || result.alteredAnswers > 0) process.exitCode = 1;
}

/** Ends at once, with what there is. */
async function interrupt(signal: "SIGINT" | "SIGTERM"): Promise<never> {
  printResult();
  interrupted.abort();
  await killAll();
  home.remove();
  process.exit(128 + constants.signals[signal]);
}
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void interrupt(signal));

try {
  const asked = await measureOurs();
  if (rivalKills > 0) await measureRival(asked);
} catch (error) {
  otherError(error);
} finally {
  if (!interrupted.signal.aborted) {
    printResult();
    await killAll();
    home.remove();
  }
}
