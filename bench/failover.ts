/**
 * What clients see when providers are killed (-9) in the middle of their streams: errors, altered bytes, and the gap in
 * the text. Real processes, an exact and a llama.cpp pool. A trial is a stream that was cut and went on elsewhere.
 */
import { havoc, type Havoc, Pool, untilAvailable, watchStream } from "../test/e2e/pool.ts";
import { killAll, skein, stop, temporaryHome } from "../test/e2e/processes.ts";
import { seededRandom } from "../src/util/random.ts";

const isQuick = process.argv.includes("--quick");
const trials = isQuick ? 50 : 1_000;
const seeds = 8;
const tokens = 300;
const clients = 12;
/** A kill every half second, and some streams at each: far more than is needed. */
const timeoutMs = trials * 4_000;

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0);
}

function told(name: string, { cuts, kills, errors, altered, gapsMs }: Havoc): void {
  console.log(
    `${name.padEnd(8)}${kills} kills, ${cuts} streams cut, ${errors.length} errors, ${altered} altered, ` +
      `gap p50 ${quantile(gapsMs, 0.5)} ms, p99 ${quantile(gapsMs, 0.99)} ms`,
  );
  for (const error of new Set(errors)) console.log(`  ${error}`);
}

const home = temporaryHome();
const gateway = skein(home.path, "gateway", "--port", "0", "--network-port", "0");
try {
  const [url] = await gateway.printed(/http:\/\/127\.0\.0\.1:\d+/);
  const exact = new Pool(home.path, "exact", url);
  const llama = new Pool(home.path, "llama", url);
  await Promise.all([exact.grow(2), llama.grow(2)]);
  await Promise.all([untilAvailable(url, exact.model, 2), untilAvailable(url, llama.model, 2)]);
  const ask = (seed: number) => watchStream(url, { model: exact.model, seed, max_tokens: tokens });
  const undisturbed = await Promise.all(Array.from({ length: seeds }, (_, seed) => ask(seed)));
  const expected = undisturbed.map(({ text }) => text);
  const random = seededRandom(1);
  const options = { clients, tokens, random: () => random.next(), seeds, timeoutMs, cuts: trials / 2 };
  const [ofExact, ofLlama] = await Promise.all([
    havoc(url, exact, { ...options, expected }),
    havoc(url, llama, { ...options, expected: null }),
  ]);
  told("exact", ofExact);
  told("llama", ofLlama);
  const gapsMs = [...ofExact.gapsMs, ...ofLlama.gapsMs];
  console.log(
    JSON.stringify({
      trials: ofExact.cuts + ofLlama.cuts,
      kills: ofExact.kills + ofLlama.kills,
      clientErrors: ofExact.errors.length + ofLlama.errors.length,
      alteredBytes: ofExact.alteredBytes,
      gapMsP50: quantile(gapsMs, 0.5),
      gapMsP99: quantile(gapsMs, 0.99),
      gapMsMax: quantile(gapsMs, 1),
      undisturbedGapMsMax: quantile(
        undisturbed.map(({ gapMs }) => gapMs),
        1,
      ),
    }),
  );
} finally {
  await stop(gateway).catch(() => undefined);
  await killAll();
  home.remove();
}
