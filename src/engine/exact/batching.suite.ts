/** What tests of the batch loop share: a small random model, an executor that is watched, and requests with known answers. */
import assert from "node:assert/strict";
import { CommitmentRecorder } from "../../exact/commitment/recorder.ts";
import type { DraftSource } from "../../exact/drafts/draft-source.ts";
import type { PagedExecutor, PagedSequence, StepRow } from "../../exact/executor.ts";
import {
  type Dice,
  diceOfSeed,
  giveModel,
  randomModel,
  randomShape,
} from "../../exact/random-model.suite.ts";
import { createWasmExecutor } from "../../exact/wasm/executor.ts";
import {
  type GenerateEvent,
  type GenerateRequest,
  greedySampling,
  type Sampling,
} from "../../protocol/generate.ts";
import { toHex } from "../../util/bytes.ts";
import { type TokenMask, TokenMasks } from "../masks/token-masks.ts";
import { sha256 } from "../sha256.ts";
import { Sequence } from "./sequence.ts";

/** Four pages. */
export const contextTokens = 120;
const endToken = 0;

const shape = randomShape(diceOfSeed(5), {
  layers: 2,
  dim: 32,
  ffnDim: 48,
  heads: 4,
  headsKv: 2,
  headDim: 16,
  vocabularySize: 24,
  contextTokensMax: contextTokens,
});
const model = await randomModel(diceOfSeed(6), shape, "calm");

/** Of another model with the same tokens. */
export async function draftExecutor(cacheTokensMax: number): Promise<PagedExecutor> {
  const smaller = { ...shape, layers: 1 };
  const making = createWasmExecutor(smaller, { contextTokensMax: 100, cacheTokensMax, rowsMax: 7 });
  await giveModel(await randomModel(diceOfSeed(7), smaller, "calm"), making.sink);
  return making.executor();
}

export async function smallExecutor(cacheTokensMax: number, rowsMax = 64): Promise<PagedExecutor> {
  const making = createWasmExecutor(shape, { contextTokensMax: contextTokens, cacheTokensMax, rowsMax });
  await giveModel(model, making.sink);
  return making.executor();
}

/** What was evaluated behind which tokens, whoever asked for it: the same tokens must give the same leaves. */
export class Watch {
  readonly #leaves = new Map<string, string>();
  readonly #tokens = new WeakMap<PagedSequence, number[]>();
  /** Rows evaluated so far. */
  rows = 0;
  /** Rows of each step. */
  readonly steps: number[] = [];

  over(executor: PagedExecutor): PagedExecutor {
    const watched: PagedExecutor = {
      shape: executor.shape,
      range: executor.range,
      contextTokensMax: executor.contextTokensMax,
      rowsMax: executor.rowsMax,
      outputNorm: () => executor.outputNorm(),
      freePages: () => executor.freePages(),
      newSequence: () => this.#follow(executor.newSequence(), []),
      step: (rows, onLayer) => {
        const prefixes = rows.map((row) => this.#prefixOf(row));
        const leaves = rows.map(() => "");
        const outputs = executor.step(rows, (row, layer, bytes) => {
          leaves[row] += toHex(sha256(bytes)).slice(0, 16);
          onLayer?.(row, layer, bytes);
        });
        for (const [i, prefix] of prefixes.entries()) {
          const known = this.#leaves.get(prefix);
          if (known === undefined) this.#leaves.set(prefix, leaves[i]!);
          else assert.equal(leaves[i], known, `other leaves behind ${prefix}`);
        }
        this.rows += rows.length;
        this.steps.push(rows.length);
        return outputs;
      },
    };
    return watched;
  }

  #follow(sequence: PagedSequence, tokens: number[]): PagedSequence {
    this.#tokens.set(sequence, tokens);
    const fork = sequence.fork.bind(sequence);
    sequence.fork = (length) => this.#follow(fork(length), this.#tokens.get(sequence)!.slice(0, length));
    const truncate = sequence.truncate.bind(sequence);
    sequence.truncate = (length) => {
      truncate(length);
      this.#tokens.get(sequence)!.length = sequence.length;
    };
    return sequence;
  }

  #prefixOf({ sequence, input }: StepRow): string {
    const tokens = this.#tokens.get(sequence as PagedSequence)!;
    tokens.push(input as number);
    return tokens.join(",");
  }
}

/** A letter each, from a. */
const pieces = (token: number): Uint8Array => Uint8Array.of(96 + token);
const vocabulary = { pieces, isEnd: (token: number): boolean => token === endToken };

/** Its threads run until it is closed. */
export function smallMasks(): TokenMasks {
  return new TokenMasks({ ...vocabulary, vocabularySize: shape.vocabularySize });
}

let ids = 0;

export function sequenceOf(request: GenerateRequest, mask: TokenMask | null = null): Sequence {
  const { prompt } = request;
  assert.ok(prompt.kind === "tokens");
  const promptTokens = prompt.tokenIds;
  return new Sequence({ id: ++ids, request, promptTokens, contextTokens, mask }, vocabulary);
}

export function requestOf(
  tokenIds: readonly number[],
  outputTokensMax: number | null,
  sampling: Partial<Sampling> = {},
  more: Partial<GenerateRequest> = {},
): GenerateRequest {
  return {
    requestId: "test",
    modelId: "test",
    prompt: { kind: "tokens", tokenIds },
    emitted: { tokenIds: [], text: "" },
    sampling: { ...greedySampling, ...sampling },
    stop: [],
    constraint: null,
    logprobs: null,
    outputTokensMax,
    timeoutMs: 60_000,
    ...more,
  };
}

/** Guesses anything. */
export function randomDrafts(dice: Dice): DraftSource {
  const guess = (): number => dice.whole(0, shape.vocabularySize - 1);
  return {
    isFree: dice.chance(0.5),
    propose: (wishes) => wishes.map(({ countMax }) => Array.from({ length: dice.whole(0, countMax) }, guess)),
    forget: () => undefined,
  };
}

/** Guesses what comes, if it is one of these; with dice, sometimes wrong from some token on. */
export function knownDrafts(known: readonly (readonly number[])[], dice: Dice | null): DraftSource {
  return {
    isFree: dice?.chance(0.5) ?? false,
    propose: (wishes) =>
      wishes.map(({ tokens, countMax }) => {
        const own = known.find((all) => tokens.every((token, i) => all[i] === token));
        const right = own?.slice(tokens.length, tokens.length + countMax) ?? [];
        if (dice === null || right.length === 0) return right;
        const from = dice.whole(0, right.length);
        return right.map((token, i) => (i < from ? token : (token + 1) % shape.vocabularySize));
      }),
    forget: () => undefined,
  };
}

/** The answer's tokens when nobody else is there, each evaluated in a step of its own. */
export function answerAlone(executor: PagedExecutor, request: GenerateRequest): number[] {
  return runAlone(executor, request, null).answer;
}

/** The same with everything around it; closes the mask. */
export function runAlone(
  executor: PagedExecutor,
  request: GenerateRequest,
  mask: TokenMask | null,
): {
  readonly answer: number[];
  readonly events: readonly GenerateEvent[];
  readonly recorder: CommitmentRecorder;
} {
  const { terms: _, ...plain } = request;
  const sequence = sequenceOf(plain, mask);
  const recorder = new CommitmentRecorder(sha256, { keepsLeaves: true });
  const all: GenerateEvent[] = [];
  const cache = executor.newSequence();
  for (;;) {
    const input = sequence.tokens[cache.length]!;
    const isLast = cache.length + 1 === sequence.tokens.length;
    const rows = [{ sequence: cache, input, wantsLogits: isLast }];
    const [logits] = executor.step(rows, recorder.listener());
    recorder.close([input]);
    if (isLast) all.push(...sequence.draw(logits!));
    if (all.at(-1)?.type === "end") break;
  }
  cache.free();
  mask?.close();
  return { answer: sequence.tokens.slice(sequence.promptLength), events: all, recorder };
}

/** Prompts that often begin alike, all kinds of draws, and answers that were begun elsewhere. */
export function randomRequest(dice: Dice): GenerateRequest {
  const common = Array.from({ length: dice.pick([0, 3, 32, 40, 70]) }, (_, i) => 1 + ((i * 7) % 20));
  const own = Array.from({ length: dice.whole(1, 30) }, () => dice.whole(0, shape.vocabularySize - 1));
  const repeated = dice.chance(0.4) ? [...own.slice(0, 8), ...own.slice(0, 8)] : [];
  const temperature = dice.pick([0, 0, 0.3, 1, 5]);
  const penalty = dice.chance(0.3) ? 0.7 : 0;
  return requestOf(
    [...common, ...own, ...repeated].slice(0, contextTokens - 2),
    dice.pick([1, 5, 20, 60, null]),
    { temperature, seed: dice.whole(0, 3), frequencyPenalty: penalty, topK: dice.pick([0, 0, 5]) },
    { cacheSalt: dice.pick(["one", "one", "two"]) },
  );
}
