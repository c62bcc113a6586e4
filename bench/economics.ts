/**
 * When cheating begins to pay: the stake that the formula asks for beside the least one found by trying, for one parameter
 * after the other; then a simulated market of honest and dishonest parties, and where it breaks.
 * `--csv <file>` also writes the tables as comma-separated values.
 */
import { writeFileSync } from "node:fs";
import {
  leastStake,
  plantedShareNeeded,
  proofChance,
  type Stakes,
  sufficientStake,
} from "../src/audit/economics.ts";
import { defaultMarket, type MarketOptions, simulateMarket } from "../src/audit/market.ts";
import { defaultAuditPolicy } from "../src/audit/probability.ts";
import { seededRandom } from "../src/util/random.ts";

const isQuick = process.argv.includes("--quick");
const csvAt = process.argv.indexOf("--csv");
const seeds = isQuick ? 5 : 40;
const openAnswersMax = 10_000;
const csv: string[] = ["parameter,value,stakeByFormula,leastStake,stakeWithoutEscrow"];
const result: Record<string, number | string> = {};
const round = (value: number): number => Number(value.toPrecision(4));

const base: Stakes = {
  gain: 0.8,
  fee: 1,
  auditProbability: 0.01,
  detection: 1,
  colludingShare: 0.1,
  escrow: true,
};
const sweeps: readonly (readonly [keyof Stakes, readonly number[]])[] = [
  ["auditProbability", [0.001, 0.01, 0.05, 0.25]],
  ["detection", [1, 0.9, 0.5, 0.1]],
  ["colludingShare", [0, 0.1, 0.3, 0.6, 0.9]],
  ["gain", [0.2, 0.8, 1]],
];

console.log(
  `Stakes in fees of one answer, for a gain of ${base.gain} fees, audits of 1 %, 10 % of auditors colluding:\n`,
);
console.log("parameter          value    by formula   least found   without escrow, 1,000 open answers");
let worst = 0;
for (const [parameter, values] of sweeps) {
  for (const value of values) {
    const stakes = { ...base, [parameter]: value };
    const formula = sufficientStake(stakes, 1);
    const least = leastStake(stakes, openAnswersMax);
    const without = sufficientStake({ ...stakes, escrow: false }, 1_000);
    worst = Math.max(worst, least / formula);
    csv.push([parameter, value, formula, least, without].join(","));
    console.log(
      `${parameter.padEnd(18)} ${String(value).padEnd(8)} ${formula.toFixed(1).padStart(8)} ${least.toFixed(1).padStart(13)} ${without.toFixed(1).padStart(16)}`,
    );
  }
}
result["stakeByFormula"] = round(sufficientStake(base, 1));
result["leastStake"] = round(leastStake(base, openAnswersMax));
result["leastByFormulaWorst"] = round(worst);

/** With twice the stake of the formula, where does each parameter break? */
const stake = 2 * sufficientStake(base, 1);
const breaking = {
  auditProbability: base.gain / (stake * base.detection * (1 - base.colludingShare)),
  detection: base.gain / (stake * base.auditProbability * (1 - base.colludingShare)),
  colludingShare: 1 - base.gain / (stake * base.auditProbability * base.detection),
  gain: stake * proofChance(base),
  plantedShare: plantedShareNeeded({ cost: defaultMarket.auditCost, bond: defaultMarket.auditorBond }),
};

// --- market -------------------------------------------------------------------------------------

const rate = 0.02;
const fixedRate = { ...defaultAuditPolicy, newcomerProbability: rate, floorProbability: rate, gainShare: 0 };
const marketBase: MarketOptions = {
  ...defaultMarket,
  providers: { honest: 6, cheat: 0, sybil: 6, colluder: 6, aborter: 6 },
  auditors: { awake: 9, lazy: 0, colluding: 1 },
  policy: fixedRate,
  windows: isQuick ? 60 : 150,
};

interface Advantage {
  readonly mean: number;
  readonly error: number;
}

/** Profit of a kind of provider above honest ones, by work, in fees an answer. */
function advantageOf(options: MarketOptions, kind: "sybil" | "colluder" | "aborter"): Advantage {
  const values = Array.from({ length: seeds }, (_, seed) => {
    const { providers } = simulateMarket(options, seededRandom(seed + 1));
    return providers[kind].profitPerAnswer - providers.honest.profitPerAnswer;
  });
  return statisticsOf(values);
}

function statisticsOf(values: readonly number[]): Advantage {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
  return { mean, error: Math.sqrt(variance / values.length) };
}

const marketStakes: Stakes = { ...base, auditProbability: rate };
const bound = sufficientStake(marketStakes, 1);
console.log(
  `\nMarket, ${seeds} seeds, audits of ${100 * rate} %, stake by formula ${bound.toFixed(1)}; fees above honest work, for each answer:\n`,
);
csv.push("", "stakeByBound,escrow,sybil,sybilError,colluder,colluderError");
for (const escrow of [true, false]) {
  for (const factor of [0.05, 0.25, 0.5, 1, 1.5]) {
    const options = { ...marketBase, escrow, stake: factor * bound };
    const sybil = advantageOf(options, "sybil");
    const colluder = advantageOf(options, "colluder");
    csv.push([factor, escrow, sybil.mean, sybil.error, colluder.mean, colluder.error].join(","));
    console.log(
      `${escrow ? "escrow   " : "no escrow"} stake ${String(factor).padEnd(4)} of the bound   back under new names ${show(sybil)}   colluding with a tenth of auditors ${show(colluder)}`,
    );
    const key = `At${factor}${escrow ? "" : "WithoutEscrow"}`;
    result[`sybilAdvantage${key}`] = round(sybil.mean);
    result[`sybilAdvantageError${key}`] = round(sybil.error);
  }
}
function show({ mean, error }: Advantage): string {
  return `${mean >= 0 ? "+" : ""}${mean.toFixed(3)} ± ${error.toFixed(3)}`;
}

console.log(
  "\nLazy auditors (they pass everything), profit of a lazy one above an awake one in fees an audit:\n",
);
csv.push("", "plantedShare,lazyAdvantage,error");
for (const plantedShare of [0, 0.005, 0.01, 0.02, 0.05]) {
  const values = Array.from({ length: seeds }, (_, seed) => {
    const options = {
      ...marketBase,
      stake: bound,
      plantedShare,
      auditors: { awake: 5, lazy: 5, colluding: 0 },
    };
    const { auditors } = simulateMarket(options, seededRandom(seed + 1));
    return auditors.lazy.profitPerAnswer - auditors.awake.profitPerAnswer;
  });
  const advantage = statisticsOf(values);
  csv.push([plantedShare, advantage.mean, advantage.error].join(","));
  console.log(`planted ${(100 * plantedShare).toFixed(1).padStart(4)} %   ${show(advantage)}`);
  result[`lazyAdvantageAtPlanted${plantedShare}`] = round(advantage.mean);
}

const whole = Array.from({ length: seeds }, (_, seed) =>
  simulateMarket(defaultMarket, seededRandom(seed + 1)),
);
const meanOf = (of: (one: (typeof whole)[number]) => number): number =>
  whole.reduce((sum, one) => sum + of(one), 0) / whole.length;
console.log("\nEverything as configured by default: profit in fees, times slashed");
for (const kind of ["honest", "cheat", "sybil", "colluder", "aborter"] as const) {
  const profit = meanOf((one) => one.providers[kind].profit);
  const slashed = meanOf((one) => one.providers[kind].losses);
  console.log(`${kind.padEnd(9)} ${profit.toFixed(1).padStart(8)} ${slashed.toFixed(2).padStart(6)}`);
  result[`${kind}Profit`] = round(profit);
  result[`${kind}Slashed`] = round(slashed);
}
result["auditShareByDefault"] = round(meanOf((one) => one.auditShare));

console.log(`\nA stake of ${stake.toFixed(1)} fees stops deterring when`);
for (const [name, value] of Object.entries(breaking)) {
  const direction = ["colludingShare", "gain"].includes(name) ? "rises above" : "falls below";
  console.log(`  ${name} ${direction} ${value.toPrecision(3)}`);
  result[`breaking${name[0]!.toUpperCase()}${name.slice(1)}`] = round(value);
}
if (csvAt !== -1 && process.argv[csvAt + 1] !== undefined) {
  writeFileSync(process.argv[csvAt + 1]!, `${csv.join("\n")}\n`);
}
console.log(JSON.stringify({ ...result, seeds, rival: "honest work" }));
