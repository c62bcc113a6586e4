/**
 * What a batch costs those who wait on a real engine, where everything that runs shares one processor: time to first
 * token and time per token of a stream with and without a batch beside it, in turns, over real processes (a gateway, one
 * provider with llama.cpp).
 *
 *   npm run bench -- batch-beside [--quick]
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import Table from "cli-table3";
import { Pool, untilAvailable } from "../test/e2e/pool.ts";
import { killAll, skein, skeinToEnd, stop, temporaryHome } from "../test/e2e/processes.ts";

const quick = process.argv.includes("--quick");
const turns = quick ? 2 : 6;
const requestsPerTurn = quick ? 25 : 60;
/** At most so much, and none. */
const besidePercents = [100, 0] as const;
const tokens = 40;
const batchLines = 20_000;

interface Seen {
  readonly ttftMs: number[];
  readonly tpotMs: number[];
}

async function ask(url: string, model: string, number: number, seen: Seen): Promise<void> {
  const body = { model, prompt: `Once upon a time ${number}`, max_tokens: tokens, stream: true };
  const startMs = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  let firstMs = 0;
  let lastMs = 0;
  let pieces = 0;
  for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
    const found = part.match(/"text":"[^"]/g)?.length ?? 0;
    if (found === 0) continue;
    lastMs = performance.now();
    firstMs ||= lastMs;
    pieces += found;
  }
  if (!response.ok) throw new Error(`no answer: ${response.status}`);
  // The model may have nothing to say.
  if (firstMs === 0) return;
  seen.ttftMs.push(firstMs - startMs);
  if (pieces > 1) seen.tpotMs.push((lastMs - firstMs) / (pieces - 1));
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))]!;
}

/** With and without a batch, in turns, so that a slow minute of the machine hits both. */
async function measure(percent: number): Promise<{ without: Seen; beside: Seen; linesPerSecond: number }> {
  const home = temporaryHome();
  try {
    writeFileSync(join(home.path, "config.json"), JSON.stringify({ batchBesidePercent: percent }), {
      mode: 0o600,
    });
    const gateway = skein(home.path, "gateway", "--port", "0", "--network-port", "0");
    const url = (await gateway.printed(/http:\/\/127\.0\.0\.1:\d+/))[0];
    const pool = new Pool(home.path, "llama", url);
    await pool.grow(1);
    await untilAvailable(url, pool.model, 1);
    const input = join(home.path, "in.jsonl");
    const line = (i: number): string => {
      const body = { model: pool.model, prompt: `Story ${i}:`, max_tokens: tokens };
      return JSON.stringify({ custom_id: `${i}`, method: "POST", url: "/v1/completions", body });
    };
    writeFileSync(input, Array.from({ length: batchLines }, (_, i) => line(i)).join("\n"));
    const without: Seen = { ttftMs: [], tpotMs: [] };
    const beside: Seen = { ttftMs: [], tpotMs: [] };
    let lines = 0;
    let passedMs = 0;
    let number = 0;
    for (let turn = 0; turn < turns; turn++) {
      for (let i = 0; i < requestsPerTurn; i++) await ask(url, pool.model, number++, without);
      const { output } = await skeinToEnd(home.path, "batch", "submit", input, "--detach", "--gateway", url);
      const id = /batch_[0-9a-f]+/.exec(output)![0];
      const completed = async (): Promise<number> =>
        ((await (await fetch(`${url}/v1/batches/${id}`)).json()) as { request_counts: { completed: number } })
          .request_counts.completed;
      while ((await completed()) === 0) await new Promise((resolve) => setTimeout(resolve, 50));
      const before = await completed();
      const startMs = performance.now();
      for (let i = 0; i < requestsPerTurn; i++) await ask(url, pool.model, number++, beside);
      passedMs += performance.now() - startMs;
      lines += (await completed()) - before;
      await fetch(`${url}/v1/batches/${id}/cancel`, { method: "POST" });
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
    await stop(gateway);
    return { without, beside, linesPerSecond: (lines * 1000) / passedMs };
  } finally {
    await killAll();
    home.remove();
  }
}

const table = new Table({
  style: { head: [], border: [] },
  head: ["slots for batches beside others", "TTFT p99 ratio", "TTFT p50 ratio", "TPOT p50 ratio", "lines/s"],
});
const result: Record<string, number | string> = { bench: "batch-beside", turns, requestsPerTurn };
for (const percent of besidePercents) {
  const { without, beside, linesPerSecond } = await measure(percent);
  const ratio = (of: keyof Seen, share: number): number =>
    Number((quantile(beside[of], share) / quantile(without[of], share)).toFixed(3));
  const row = [ratio("ttftMs", 0.99), ratio("ttftMs", 0.5), ratio("tpotMs", 0.5)];
  table.push([`${percent} %`, ...row, linesPerSecond.toFixed(1)]);
  Object.assign(result, {
    [`ttftP99Ratio${percent}`]: row[0],
    [`ttftP50Ratio${percent}`]: row[1],
    [`tpotP50Ratio${percent}`]: row[2],
    [`ttftP50Ms${percent}`]: Number(quantile(without.ttftMs, 0.5).toFixed(2)),
    [`linesPerSecond${percent}`]: Number(linesPerSecond.toFixed(2)),
  });
}
console.log(table.toString());
console.log(JSON.stringify({ ...result, quick: quick ? 1 : 0 }));
