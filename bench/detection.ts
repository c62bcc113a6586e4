/**
 * Every cheat at a real gateway that audits with the exact engine: what finds it, and after how many answers. Then honest answers
 * in bulk, audited in steps of several sizes: how many are accused. `--full`: 10^6 honest tokens, else 10^5; `--quick`: 4,000;
 * `--minutes <n>`: fewer where that takes longer. Says every ten seconds how far it is.
 */
import { parseArgs } from "node:util";
import { tinyModels } from "./lib/tiny-models.ts";
import { generateTogether, isAccused } from "./lib/honest-answers.ts";
import { cheats } from "../src/gateway/audits/cheats.suite.ts";
import { detect } from "../src/gateway/audits/detect.suite.ts";
import type { Sampling } from "../src/protocol/generate.ts";
import { seededRandom } from "../src/util/random.ts";

const { values } = parseArgs({
  options: {
    full: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    seed: { type: "string", default: "1" },
    minutes: { type: "string" },
  },
});
const honestWanted = values.full ? 1_000_000 : values.quick ? 4_000 : 100_000;
const untilMs =
  performance.now() + (values.minutes === undefined ? Infinity : Number(values.minutes) * 60_000);
const progressEveryMs = 10_000;
const random = seededRandom(Number(values.seed));
const models = await tinyModels();
const prompts = [
  "Once upon a time there was a fox",
  "The river was cold and the",
  "What is 17 + 25? The answer is",
  "She opened the door and saw",
];

// 1. Cheats.
console.log("cheat | found by | answers | tokens | audits | what it says");
console.log("--- | --- | --- | --- | --- | ---");
let caught = 0;
let atFirstAudit = 0;
for (const [i, cheat] of cheats.entries()) {
  console.error(`cheat ${i + 1} of ${cheats.length}: ${cheat.name}`);
  const found = await detect(models, cheat, { prompts, outputTokensMax: 64, answersMax: 100, roundMs: 50 });
  if (found.foundBy === cheat.foundBy) caught += 1;
  if (found.foundBy === "arrival" || (found.audits === 1 && found.isExcluded)) atFirstAudit += 1;
  const audits = found.foundBy === "audit" ? found.audits : "–";
  const { answers, tokens, problem } = found;
  console.log(
    `${cheat.name} | ${found.foundBy ?? "nobody"} | ${answers} | ${tokens} | ${audits} | ${problem}`,
  );
}

// 2. Honest answers, generated together and alone, audited in steps of 1, 7, 32 and 64 rows.
const together = 16;
const answerTokens = 128;
const makers = [await models.withRows(together), await models.withRows(1)] as const;
const auditors = await Promise.all([1, 7, 32, 64].map((rows) => models.withRows(rows)));
const samplingOf = (): Sampling => ({
  temperature: [0, 0.7, 1, 1.5][Math.floor(random.next() * 4)]!,
  topP: random.next() < 0.3 ? 0.9 : 1,
  topK: random.next() < 0.3 ? 40 : 0,
  minP: random.next() < 0.2 ? 0.05 : 0,
  presencePenalty: random.next() < 0.2 ? 0.3 : 0,
  frequencyPenalty: random.next() < 0.2 ? 0.2 : 0,
  logitBias: [],
  seed: Math.floor(random.next() * 2 ** 32),
});
let honestTokens = 0;
let falseAccusations = 0;
const spent = { aloneMs: 0, aloneTokens: 0, togetherMs: 0, togetherTokens: 0, auditMs: 0, auditTokens: 0 };
let toldMs = performance.now();
for (let turn = 0; honestTokens < honestWanted && performance.now() < untilMs; turn++) {
  if (performance.now() - toldMs > progressEveryMs) {
    toldMs = performance.now();
    console.error(`${honestTokens} of ${honestWanted} honest tokens, ${falseAccusations} accusations`);
  }
  const isAlone = turn % 16 === 0;
  const count = isAlone ? 1 : together;
  const asked = Array.from({ length: count }, () => prompts[Math.floor(random.next() * prompts.length)]!);
  const tokens = asked.map((text) => models.sold.prompt.tokenizer.text(text));
  const samplings = asked.map(samplingOf);
  const startMs = performance.now();
  const answers = generateTogether(makers[isAlone ? 1 : 0], tokens, samplings, answerTokens);
  const made = count * answerTokens;
  spent[isAlone ? "aloneMs" : "togetherMs"] += performance.now() - startMs;
  spent[isAlone ? "aloneTokens" : "togetherTokens"] += made;
  for (const [i, answer] of answers.entries()) {
    const which = (turn + i) % auditors.length;
    const auditMs = performance.now();
    if (isAccused(auditors[which]!, answer)) falseAccusations += 1;
    if (which !== 3) continue;
    // What the gateway does: large steps.
    spent.auditMs += performance.now() - auditMs;
    spent.auditTokens += answerTokens;
  }
  honestTokens += made;
}
const alone = spent.aloneMs / spent.aloneTokens;
const batched = spent.togetherMs / Math.max(1, spent.togetherTokens);
const audit = spent.auditMs / Math.max(1, spent.auditTokens);
console.log(
  `\n${honestTokens} honest tokens, audited in steps of 1, 7, 32 and 64 rows: ${falseAccusations} accusations`,
);
console.log(
  `ms per token of the answer: generated alone ${alone.toFixed(2)}, ${together} together ${batched.toFixed(2)}, audited ${audit.toFixed(2)}`,
);
const short = (value: number): number => Number(value.toPrecision(3));
console.log(
  JSON.stringify({
    cheats: cheats.length,
    cheatsCaught: caught,
    cheatsCaughtAtFirstAudit: atFirstAudit,
    honestTokens,
    falseAccusations,
    auditCostRatio: short(audit / alone),
    auditCostRatioBatched: short(audit / batched),
  }),
);
process.exit(caught === cheats.length && falseAccusations === 0 ? 0 : 1);
