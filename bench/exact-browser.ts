/**
 * The exact engine in a browser beside Node, on the demo model and in the same run: tokens a second of one answer
 * after the other, on the page's main thread and in a worker, without commitments and with them.
 *
 *   npm run bench -- exact-browser [--quick]
 */
import Table from "cli-table3";
import { sha256 } from "../src/engine/sha256.ts";
import { type Answers, answersOf, type AnswersTask } from "../test/e2e/browser/answers.ts";
import { performIn, skipWithoutBrowser, startBrowser } from "../test/e2e/browser/chromium.ts";
import { convertDemo, serveDemo } from "../test/e2e/browser/demo.ts";

const isQuick = process.argv.includes("--quick");
const runs = isQuick ? 2 : 5;
const tokens = isQuick ? 500 : 2_000;

const skip = skipWithoutBrowser();
if (skip !== false) {
  console.error(skip);
  process.exit(1);
}
const container = await convertDemo();
const server = await serveDemo(container, false);
const browser = await startBrowser("none");
const page = await browser.open(server.url);

const sides = {
  node: (task: AnswersTask) => answersOf(container, sha256, task),
  browser: (task: AnswersTask) => performIn(page, "main thread", "answers", task),
  browserWorker: (task: AnswersTask) => performIn(page, "worker", "answers", task),
} as const satisfies Record<string, (task: AnswersTask) => Promise<Answers>>;
type Side = keyof typeof sides;
const names = Object.keys(sides) as Side[];

const rates = new Map<string, number[]>();
// The first round warms up.
for (let run = -1; run < runs; run++) {
  for (const commits of [false, true]) {
    for (const name of names) {
      const { generateMs } = await sides[name]({ prompt: "Once upon a time", tokens, commits });
      if (run < 0) continue;
      const key = `${name} ${commits}`;
      rates.set(key, [...(rates.get(key) ?? []), (1_000 * tokens) / generateMs]);
    }
  }
  console.error(`round ${run + 2} of ${runs + 1}`);
}
const version = browser.context.browser()?.version() ?? "";
await browser.close();
await server.close();

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
}
const rateOf = (name: Side, commits: boolean): number => median(rates.get(`${name} ${commits}`)!);
const rounded = (x: number): number => Math.round(x * 1_000) / 1_000;

const table = new Table({ head: ["tokens/s (medians)", "plain", "with commitments"] });
for (const name of names) {
  table.push([name, rateOf(name, false).toFixed(0), rateOf(name, true).toFixed(0)]);
}
console.log(table.toString());
console.log(
  JSON.stringify({
    runs,
    tokens,
    chromium: version,
    nodeTokensPerSecond: rounded(rateOf("node", false)),
    browserTokensPerSecond: rounded(rateOf("browser", false)),
    browserRatio: rounded(rateOf("browser", false) / rateOf("node", false)),
    browserWorkerRatio: rounded(rateOf("browserWorker", false) / rateOf("node", false)),
    browserCommittedRatio: rounded(rateOf("browser", true) / rateOf("node", true)),
  }),
);
