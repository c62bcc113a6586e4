/**
 * What vectors/trace-*.json hold: whole runs of small models. Tokens, what is committed to at every position, and
 * what the sampler chooses.
 */
import { equalBytes, toHex } from "../../util/bytes.ts";
import { chainHead, logitsHash } from "../commitment/commitment.ts";
import { CommitmentRecorder } from "../commitment/recorder.ts";
import { portableSha256 as sha256 } from "../commitment/portable-sha256.ts";
import type { Executor } from "../executor.ts";
import type { ExactShape } from "../model/model.ts";
import { sampleToken } from "../sampler/sampler.ts";
import { type PhiloxModel, philoxTokens } from "./philox-model.suite.ts";

/** The sampler's parameters as JSON. */
export interface TraceSampler {
  readonly inverseTemperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly bias: readonly (readonly [number, number])[];
  readonly key: readonly [number, number];
}

export interface TraceRow {
  readonly token: number;
  /** Hashes of what the layers made of it, the embedding first; not in long traces. */
  readonly leaves?: readonly string[];
  /** Hash of the logits, which nothing commits to; null in a prompt but for its last position. */
  readonly logits?: string | null;
  readonly row?: string;
  readonly chain: string;
}

export interface TraceRun {
  readonly promptTokens: number;
  readonly sampler: TraceSampler;
  readonly rows: readonly TraceRow[];
  readonly execRoot: string;
  /** What the sampler chooses behind the last position of the prompt, and behind every position after it. */
  readonly choices: readonly number[];
}

export interface RunOptions {
  readonly prompt: readonly number[];
  /** Positions in all. */
  readonly positions: number;
  readonly sampler: TraceSampler;
  readonly hasLeaves: boolean;
}

/** The prompt in one step, the rest token by token. */
export function runTrace(
  executor: Executor,
  { prompt, positions, sampler, hasLeaves }: RunOptions,
): TraceRun {
  const sequence = executor.newSequence();
  const recorder = new CommitmentRecorder(sha256, { keepsLeaves: true });
  const rows: TraceRow[] = [];
  const choices: number[] = [];
  const parameters = { ...sampler, bias: new Map(sampler.bias) };
  let tokens = [...prompt];
  let head: Uint8Array = new Uint8Array(32);
  while (rows.length < positions) {
    const first = rows.length;
    const wants = tokens.map((_, i) => first + i >= prompt.length - 1);
    const outputs = executor.step(
      tokens.map((input, i) => ({ sequence, input, wantsLogits: wants[i]! })),
      recorder.listener(),
    );
    recorder.close(tokens);
    for (const [i, token] of tokens.entries()) {
      head = chainHead(sha256, head, token, recorder.rows[first + i]!);
      const chain = toHex(head);
      const logits = outputs[i] === null ? null : toHex(logitsHash(sha256, outputs[i]!));
      // Of the layers; the one behind them is the token's.
      const leaves = recorder.leaves[first + i]!.slice(0, -1).map(toHex);
      rows.push(
        hasLeaves
          ? { token, leaves, logits, row: toHex(recorder.rows[first + i]!), chain }
          : { token, chain },
      );
    }
    const counts = new Map<number, number>();
    for (const { token } of rows.slice(prompt.length)) counts.set(token, (counts.get(token) ?? 0) + 1);
    const choice = sampleToken(outputs.at(-1)!, parameters, counts, choices.length);
    choices.push(choice);
    tokens = [choice];
  }
  if (!equalBytes(head, recorder.chain)) throw new Error("The recorder has another chain.");
  sequence.free();
  return { promptTokens: prompt.length, sampler, rows, execRoot: toHex(recorder.execRoot()), choices };
}

const calm: Readonly<Record<string, number>> = {
  embedding: -21,
  q: -23,
  k: -23,
  v: -23,
  attnOutput: -24,
  gate: -23,
  up: -23,
  down: -24,
  output: -23,
};

const greedy: TraceSampler = {
  inverseTemperature: 0,
  topK: 0,
  topP: 65_536,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  bias: [],
  key: [0, 0],
};
/** Temperature 4: small models repeat themselves otherwise. */
const warm: TraceSampler = { ...greedy, inverseTemperature: 16_384, key: [7, 0] };

/** From one radian a position to less and less, in 2^−48 turns, by a rule that needs no floating point. */
function turnsOf(pairs: number): number[] {
  let turn = 44_798_133_900_177;
  return Array.from({ length: pairs }, () => {
    const own = turn;
    turn = Math.floor((turn * 5) / 8);
    return own;
  });
}

function shapeOf(given: Partial<ExactShape>): ExactShape {
  const headDim = given.headDim ?? 16;
  return {
    layers: 2,
    dim: 48,
    heads: 4,
    headsKv: 2,
    headDim,
    ffnDim: 80,
    vocabularySize: 64,
    contextTokensMax: 64,
    normEpsilon: 128_849,
    headNormEpsilon: 0,
    turns: turnsOf(headDim / 2),
    hasTiedEmbeddings: true,
    hasQkvBias: false,
    hasQkNorm: false,
    ...given,
  };
}

export interface TraceSpec extends Omit<RunOptions, "prompt"> {
  readonly name: string;
  readonly model: PhiloxModel;
  readonly promptTokens: number;
}

/** The families that the engine runs, and places where kernels change their way. */
export const traceSpecs: readonly TraceSpec[] = [
  {
    name: "llama",
    model: { seed: 1, exponents: calm, shape: shapeOf({}) },
    promptTokens: 9,
    positions: 20,
    sampler: warm,
    hasLeaves: true,
  },
  {
    name: "qwen2",
    model: {
      seed: 2,
      exponents: calm,
      shape: shapeOf({
        dim: 80,
        headDim: 32,
        heads: 6,
        headsKv: 2,
        vocabularySize: 67,
        hasTiedEmbeddings: false,
        hasQkvBias: true,
      }),
    },
    promptTokens: 5,
    positions: 16,
    sampler: {
      ...warm,
      inverseTemperature: 93_623,
      topK: 20,
      topP: 58_982,
      frequencyPenalty: 2_048,
      bias: [[3, 8_192]],
    },
    hasLeaves: true,
  },
  {
    name: "qwen3",
    model: {
      seed: 3,
      exponents: calm,
      shape: shapeOf({
        layers: 3,
        dim: 112,
        headDim: 64,
        heads: 8,
        headsKv: 1,
        hasQkNorm: true,
        headNormEpsilon: 274_877,
      }),
    },
    promptTokens: 3,
    positions: 12,
    sampler: { ...warm, minP: 3_277, presencePenalty: 4_096 },
    hasLeaves: true,
  },
  {
    name: "saturated",
    // Queries and keys far apart, and gates and values beyond what their formats hold.
    model: {
      seed: 4,
      exponents: {
        ...calm,
        q: -17,
        k: -16,
        v: -8,
        gate: -9,
        up: -6,
        down: -20,
        attnOutput: -18,
        embedding: -8,
      },
      shape: shapeOf({ hasQkvBias: true }),
    },
    promptTokens: 7,
    positions: 14,
    sampler: greedy,
    hasLeaves: true,
  },
  {
    name: "wide",
    model: {
      seed: 5,
      exponents: calm,
      shape: shapeOf({ layers: 1, dim: 16, heads: 1, headsKv: 1, ffnDim: 8_208, vocabularySize: 5 }),
    },
    promptTokens: 2,
    positions: 4,
    sampler: greedy,
    hasLeaves: true,
  },
  {
    name: "long",
    model: { seed: 6, exponents: calm, shape: shapeOf({ layers: 1, contextTokensMax: 200 }) },
    promptTokens: 60,
    positions: 140,
    sampler: warm,
    hasLeaves: false,
  },
];

export function promptOf({ model, promptTokens }: TraceSpec): number[] {
  return philoxTokens(model, promptTokens);
}
