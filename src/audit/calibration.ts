/** What honest answers look like to an auditor: the record that `skein calibrate` writes, and how its limits are found. */
import { type ZodType, z } from "zod";
import type { Sampling } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import { clippedMargin, type FloatLimits } from "./evidence.ts";

/**
 * Requests whose sampling lets rounding show in the same way. A draw from many unlikely tokens changes with the smallest
 * error (in one token of ten at temperature 1.5), the most likely token hardly ever.
 */
export type SamplingClass = "greedy" | "truncated" | "plain" | "hot";
export const samplingClasses: readonly SamplingClass[] = ["greedy", "truncated", "plain", "hot"];

export function samplingClassOf({ temperature, topK, topP, minP }: Omit<Sampling, "seed">): SamplingClass {
  if (temperature === 0) return "greedy";
  if (temperature > 1) return "hot";
  return topK > 0 || topP < 1 || minP > 0 ? "truncated" : "plain";
}

/** Margins of honest answers to requests of one class. */
export interface CalibrationGroup {
  readonly name: SamplingClass;
  readonly streams: readonly (readonly number[])[];
}

export interface GroupSummary {
  readonly name: SamplingClass;
  readonly streams: number;
  readonly tokens: number;
  /** Tokens with a margin above 0. */
  readonly off: number;
  /** Of clipped margins by clip, on each scale. */
  readonly means: readonly number[];
  readonly means_max: readonly number[];
}

export interface CalibrationRecord {
  readonly format: "skein-calibration-v1";
  readonly model_id: string;
  /** Engine, versions, backend and machine: other runtimes round differently. */
  readonly runtime: string;
  /** In nats, the fine scale first. */
  readonly clips: readonly number[];
  /** Chance that no upper bound is below the honest mean of its group, if tokens of a group are alike. */
  readonly confidence: number;
  readonly quantile: number;
  readonly streams: number;
  readonly tokens: number;
  /** What was varied: threads, requests together, tokens read at once. */
  readonly shapes: readonly string[];
  readonly groups: readonly GroupSummary[];
  readonly created_at: string;
}

const clipQuantile = 0.999;
/**
 * Clipping below this would take another machine's rounding for evidence: float engines on different processors differ by
 * hundredths of a nat.
 */
const clipMin = 0.05;
/** The coarse clip by the fine one. */
const coarseFactor = 10;
const confidence = 0.99;

/** The fine clip is the 99.9 % quantile of honest margins; means are bounded for each group apart. */
export function limitsFrom(groups: readonly CalibrationGroup[]): {
  readonly clips: readonly number[];
  readonly summaries: readonly GroupSummary[];
} {
  if (groups.length === 0 || groups.some(({ streams }) => streams.every((one) => one.length === 0)))
    throw new RangeError("every group needs margins");
  const all = groups.flatMap(({ streams }) => streams.flat()).filter(Number.isFinite);
  const fine = Math.max(clipMin, quantile(all, clipQuantile));
  const clips = [fine, coarseFactor * fine];
  const delta = (1 - confidence) / (groups.length * clips.length);
  return { clips, summaries: groups.map((group) => summaryOf(group, clips, delta)) };
}

function summaryOf(
  { name, streams }: CalibrationGroup,
  clips: readonly number[],
  delta: number,
): GroupSummary {
  const margins = streams.flat();
  const scores = clips.map((clip) => margins.map((margin) => clippedMargin(margin, clip)));
  return {
    name,
    streams: streams.length,
    tokens: margins.length,
    off: margins.filter((margin) => margin > 0).length,
    means: scores.map((some) => some.reduce((a, b) => a + b, 0) / some.length),
    means_max: scores.map((some) => meanUpperBound(some, delta)),
  };
}

export function calibrationRecord(
  groups: readonly CalibrationGroup[],
  facts: Pick<CalibrationRecord, "model_id" | "runtime" | "shapes" | "created_at">,
): CalibrationRecord {
  const { clips, summaries } = limitsFrom(groups);
  return {
    format: "skein-calibration-v1",
    ...facts,
    clips,
    confidence,
    quantile: clipQuantile,
    streams: summaries.reduce((sum, { streams }) => sum + streams, 0),
    tokens: summaries.reduce((sum, { tokens }) => sum + tokens, 0),
    groups: summaries,
  };
}

const count = z.number().int().min(1);
const part = z.number().gt(0).lt(1);
const schema: ZodType<CalibrationRecord> = z
  .strictObject({
    format: z.literal("skein-calibration-v1"),
    model_id: z.string().min(1).max(200),
    runtime: z.string().min(1).max(500),
    clips: z.array(z.number().gt(0).max(1_000)).min(1).max(10),
    confidence: part,
    quantile: part,
    streams: count,
    tokens: count,
    shapes: z.array(z.string().max(200)).max(100),
    groups: z
      .array(
        z.strictObject({
          name: z.enum(["greedy", "truncated", "plain", "hot"]),
          streams: count,
          tokens: count,
          off: z.number().int().min(0),
          means: z.array(z.number().min(0).max(1)),
          means_max: z.array(part),
        }),
      )
      .min(1)
      .max(100),
    created_at: z.string().max(40),
  })
  .refine(
    ({ clips, groups }) =>
      groups.every(
        ({ means, means_max: most }) => means.length === clips.length && most.length === clips.length,
      ),
    "every group has a mean for each clip",
  );

/** @throws SkeinError `invalid_config` when it is no calibration record */
export function parseCalibration(text: string): CalibrationRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw notOne("it is not JSON");
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw notOne(issue === undefined ? "it is malformed" : `${issue.path.join(".")}: ${issue.message}`);
}

function notOne(why: string): SkeinError {
  return new SkeinError("invalid_config", `Not a calibration record: ${why.slice(0, 200)}.`, {
    hint: "Make one with `skein calibrate`.",
  });
}

/** What holds for answers to requests of a class; of one that was not calibrated, what holds for all. */
export function limitsFor(
  { clips, groups }: Pick<CalibrationRecord, "clips" | "groups">,
  name: SamplingClass,
): FloatLimits {
  const known = groups.filter((group) => group.name === name);
  const counted = known.length > 0 ? known : groups;
  return clips.map((clip, i) => ({
    clip,
    meanMax: Math.max(...counted.map((group) => group.means_max[i]!)),
  }));
}

/** Nearest rank. */
function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? 0;
}

const boundBets: readonly number[] = [0.99, 0.5, 0.25, 0.1, 0.03, 0.01];

/**
 * Upper confidence bound on the mean of numbers in [0, 1]: the least m for which betting on "the mean is below m" has
 * multiplied the stake by 1/δ (Waudby-Smith and Ramdas 2024, as in `evidence.ts`). Right for any such numbers, with
 * small means above all: without a single number above 0 it is about log(1/δ)/n.
 */
export function meanUpperBound(scores: readonly number[], delta: number): number {
  const logWealth = (m: number): number => {
    const logs = boundBets.map((bet) => {
      // A bet of at most 1/(1 − m) loses at most everything.
      const stake = bet / (1 - m);
      return scores.reduce((sum, score) => sum + Math.log1p(stake * (m - score)), 0);
    });
    const most = Math.max(...logs);
    return most + Math.log(logs.reduce((sum, log) => sum + Math.exp(log - most), 0) / logs.length);
  };
  let low = 0;
  let high = 1;
  // Half of what single precision resolves.
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (logWealth(middle) >= -Math.log(delta)) high = middle;
    else low = middle;
  }
  return high;
}
