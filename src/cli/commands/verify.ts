import { readFileSync } from "node:fs";
import { text as readAll } from "node:stream/consumers";
import type { Command } from "commander";
import { withMask, verifyAnswer, type VerifiedAnswer } from "../../audit/verify-answer.ts";
import { type WeighedAnswer, weighAnswer } from "../../audit/weigh-answer.ts";
import { sha256 } from "../../engine/sha256.ts";
import { checkDocument, hasBeginning, type PlacedCheck } from "../../receipt/check-document.ts";
import { parseDocument, type ReceiptDocument } from "../../receipt/document.ts";
import { nanoToUsd } from "../../protocol/price.ts";
import { repeatedTokens } from "../../receipt/whole-answer.ts";
import { answerBits } from "../../receipt/answer-bits.ts";
import { SkeinError } from "../../util/errors.ts";
import { printableJson, printableLine } from "../../util/printable.ts";
import { type Context, contextOf } from "../context.ts";
import { exitWhenStopped } from "../foreground.ts";
import { createProgress } from "../progress.ts";
import { step } from "../terminal.ts";
import { withModelOf } from "../verify-model.ts";
import { withScoringEngine } from "../scoring-engine.ts";

/** What scripts look at; not the command line's usual ones, for a wrong receipt is no failure to run. */
const verdictCodes = { good: 0, bad: 1, unknown: 2 } as const;
type Verdict = keyof typeof verdictCodes;

type Place = Pick<PlacedCheck, "choice" | "replica">;

interface Found {
  readonly verdict: Verdict;
  readonly checks: readonly PlacedCheck[];
  /** Choices that were computed again. */
  readonly computed: readonly (VerifiedAnswer & Place)[];
  /** Choices that were compared with what this machine draws. */
  readonly weighed: readonly (WeighedAnswer & Place)[];
  /** Why not everything was checked; null: it was. */
  readonly unchecked: string | null;
}

const nothing = { computed: [], weighed: [] } as const;

/** `skein verify <file> [--model <model>]` */
export async function verify(file: string, command: Command): Promise<void> {
  const context = contextOf(command);
  exitWhenStopped();
  let found: Found;
  let document: ReceiptDocument | null = null;
  try {
    document = parseDocument(await readJson(file));
    found = await find(context, document);
  } catch (error) {
    if (!(error instanceof SkeinError) || error.code === "cancelled") throw error;
    found = { verdict: "unknown", checks: [], ...nothing, unchecked: error.text };
  }
  if (context.flags["json"] === true) console.log(printableJson(viewOf(found)));
  else tell(found, document);
  process.exitCode = verdictCodes[found.verdict];
}

export async function readJson(file: string): Promise<unknown> {
  let source: string;
  try {
    source = file === "-" ? await readAll(process.stdin) : readFileSync(file, "utf8");
  } catch (error) {
    throw new SkeinError("invalid_request", `${file} cannot be read: ${(error as Error).message}`);
  }
  try {
    return JSON.parse(source);
  } catch {
    throw new SkeinError("invalid_request", `${file} is not JSON.`, {
      hint: "skein receipt <id> fetches a receipt from the gateway.",
    });
  }
}

async function find(context: Context, document: ReceiptDocument): Promise<Found> {
  const checks = await checkDocument(sha256, document);
  if (!document.choices.every(hasBeginning)) {
    const unchecked = "The beginning is missing: its gateway was started again in the middle of the answer.";
    return { verdict: "unknown", checks, ...nothing, unchecked };
  }
  if (checks.some(({ problem }) => problem !== null)) {
    return { verdict: "bad", checks, ...nothing, unchecked: null };
  }
  const signed = document.choices.flatMap(({ parts }) => parts.flatMap(({ receipt }) => receipt ?? []));
  if (signed.length === 0) {
    return { verdict: "unknown", checks, ...nothing, unchecked: "There is no receipt in it." };
  }
  const model = context.flags["model"] as string | undefined;
  if (model === undefined) {
    const differing = differingReplica(document.choices);
    if (differing === null) return { verdict: "good", checks, ...nothing, unchecked: null };
    const unchecked = `Replica ${differing + 1} is not the same answer as replica 1; which is right, --model tells.`;
    return { verdict: "unknown", checks, ...nothing, unchecked };
  }
  const { modelId, tier } = signed[0]!.receipt;
  if (tier === "float") {
    const weighed = await weigh(context, document, { named: model, modelId });
    const isBad = weighed.some(({ problem }) => problem !== null);
    return { verdict: isBad ? "bad" : "good", checks, ...nothing, weighed, unchecked: null };
  }
  const computed: Found["computed"][number][] = [];
  const progress = createProgress("computing the answer again");
  const positions = Math.max(...signed.map(({ receipt }) => receipt.execution?.positions ?? 1));
  await withModelOf(context, model, { modelId, positions }, async (loaded) => {
    for (const choice of document.choices) {
      if (choice.parts.length === 0) continue;
      computed.push({
        choice: choice.index,
        ...(choice.replica === undefined ? {} : { replica: choice.replica }),
        ...(await withMask(loaded, choice, (mask) =>
          run(verifyAnswer(sha256, loaded, choice, { known: null, mask }), (done, total) =>
            progress.show(done, total),
          ),
        )),
      });
    }
  }).finally(() => progress.end());
  const isBad = computed.some(({ problem }) => problem !== null);
  return { verdict: isBad ? "bad" : "good", checks, ...nothing, computed, unchecked: null };
}

async function weigh(
  context: Context,
  { choices }: ReceiptDocument,
  { named, modelId }: { named: string; modelId: string },
): Promise<Found["weighed"]> {
  const { signal } = new AbortController();
  const answered = choices.filter(({ parts }) => parts.length > 0);
  const contextTokens = Math.max(
    ...answered.flatMap(({ parts }) => parts.map(({ asked }) => asked.contextTokensMax)),
  );
  const weighed: (WeighedAnswer & { choice: number })[] = [];
  await withScoringEngine(context, named, { modelId, contextTokens, signal }, async (engine, calibration) => {
    const progress = createProgress("reading the answer again");
    try {
      for (const [i, choice] of answered.entries()) {
        weighed.push({ choice: choice.index, ...(await weighAnswer(engine, choice, calibration, signal)) });
        progress.show(i + 1, answered.length);
      }
    } finally {
      progress.end();
    }
  });
  return weighed;
}

function run(
  steps: ReturnType<typeof verifyAnswer>,
  onProgress: (done: number, total: number) => void,
): VerifiedAnswer {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    onProgress(value.done, value.total);
  }
}

function viewOf({ verdict, checks, computed, weighed, unchecked }: Found) {
  return {
    verdict,
    problems: [
      ...checks.flatMap(({ choice, replica, part, name, problem }) =>
        problem === null ? [] : [{ choice, replica, attempt: part, check: name, problem }],
      ),
      ...computed.flatMap(({ choice, replica, problem, fault }) =>
        problem === null ? [] : [{ choice, replica, check: "computation", problem, fault }],
      ),
      ...weighed.flatMap(({ choice, problem }) =>
        problem === null ? [] : [{ choice, check: "margins", problem }],
      ),
    ],
    positions_computed:
      computed.length === 0 ? null : computed.reduce((sum, { positions }) => sum + positions, 0),
    margins:
      weighed.length === 0
        ? null
        : weighed.map(({ choice, tokens, off, marginMax, logEvidence, isCalibrated }) => ({
            choice,
            tokens,
            off,
            // JSON has no infinity.
            margin_max: Number.isFinite(marginMax) ? marginMax : null,
            log_evidence: logEvidence,
            calibrated: isCalibrated,
          })),
    unchecked,
  };
}

function tell(
  { verdict, checks, computed, weighed, unchecked }: Found,
  document: ReceiptDocument | null,
): void {
  for (const check of checks) {
    const { choice, replica, part, name, problem } = check;
    if (problem === null) continue;
    const { parts } = document!.choices.find((each) => each.index === choice && each.replica === replica)!;
    const attempt = parts.length > 1 ? `, attempt ${part + 1}` : "";
    step("failed", printableLine(`${placeOf(check)}${attempt}: ${name}: ${problem}`));
  }
  for (const each of [...computed, ...weighed]) {
    if (each.problem !== null) step("failed", printableLine(`${placeOf(each)}: ${each.problem}`));
  }
  if (unchecked !== null) step("failed", printableLine(`It cannot be checked: ${unchecked}`));
  if (verdict === "bad") step("failed", "The receipt is wrong.");
  if (verdict === "good")
    for (const line of goodNews(document!, computed, weighed)) step("done", printableLine(line));
}

function placeOf({ choice, replica }: Place): string {
  return `answer ${choice + 1}${replica === undefined ? "" : `, replica ${replica + 1}`}`;
}

/** Number of the first replica that gave something else than the first one of its answer; null: all are the same. */
function differingReplica(choices: ReceiptDocument["choices"]): number | null {
  for (const choice of choices) {
    const first = choices.find(({ index, replica }) => index === choice.index && replica !== undefined);
    if (first !== undefined && answerBits(sha256, first) !== answerBits(sha256, choice))
      return choice.replica!;
  }
  return null;
}

function goodNews(
  document: ReceiptDocument,
  computed: Found["computed"],
  weighed: Found["weighed"],
): string[] {
  const receipts = document.choices.flatMap(({ parts }) => parts.flatMap(({ receipt }) => receipt ?? []));
  const providers = new Set(receipts.map(({ receipt }) => receipt.providerId)).size;
  const tokens = receipts.reduce((sum, { receipt }) => sum + receipt.outputTokens, 0);
  const fee = receipts.reduce((sum, { receipt }) => sum + receipt.fee, 0n);
  const { tier, modelId } = receipts[0]!.receipt;
  const replicas = document.choices.filter(({ replica }) => replica !== undefined).length;
  const same = replicas === 0 ? "" : ` All ${replicas} replicas are the same, bit for bit.`;
  const lines = [
    `${receipts.length === 1 ? "The receipt is" : `${receipts.length} receipts are`} signed by ${providers === 1 ? "its provider" : `${providers} providers`}: ${tokens} tokens of ${modelId} for $${nanoToUsd(fee)}; prompt, answer, counts and price are what was signed.${same}`,
  ];
  const repeated = document.choices.reduce((sum, { parts }) => sum + repeatedTokens(parts), 0);
  if (repeated > 0) {
    lines.push(
      `${repeated} tokens were generated by two providers while the stream moved: both signed for them, and they were charged once.`,
    );
  }
  if (computed.length > 0) {
    const positions = computed.reduce((sum, each) => sum + each.positions, 0);
    lines.push(
      `Computed again: all ${positions} positions and every choice of a token are exactly what this model gives.`,
    );
  } else if (weighed.length > 0) {
    lines.push(...weighed.map(marginNews));
  } else if (tier === "exact") {
    lines.push("Whether the model really computed this, --model tells.");
  } else if (tier === "float") {
    lines.push("Whether it looks like this model's, --model tells; rounding leaves no proof.");
  } else {
    lines.push(`Its tier is '${tier}': nobody can prove by computing again that this model gave the answer.`);
  }
  return lines;
}

function marginNews({ tokens, off, marginMax, isCalibrated }: WeighedAnswer): string {
  const those = `${tokens - off} of ${tokens} tokens are the very ones that this model draws here`;
  const rest = off === 0 ? "" : `; the others miss by ${marginMax.toFixed(3)} nats at most`;
  const limits = isCalibrated
    ? "as honest answers do on the calibrated runtime"
    : "but without `skein calibrate` only gross differences show";
  return `It fits: ${those}${rest}; ${limits}.`;
}
