/**
 * Providers that really cheat: each computes something cheaper or something else than it sells, and signs what makes that look right
 * as far as it can without the honest work.
 */
import { AnswerWriter } from "../../engine/answer-writer.ts";
import type { LoadedModel } from "../../engine/exact/load.ts";
import { tokenizePrompt } from "../../engine/prompt.ts";
import { CommitmentRecorder } from "../../exact/commitment/recorder.ts";
import type { Sequence } from "../../exact/executor.ts";
import { opsHash } from "../../exact/ops/version.ts";
import { samplerParameters } from "../../exact/sampler/parameters.ts";
import { sampleToken } from "../../exact/sampler/sampler.ts";
import type { GenerateEvent, GenerateRequest, Sampling } from "../../protocol/generate.ts";
import type { RequestWithTerms } from "../../receipt/asked.ts";
import { makeSigner, memoryChain, sha256 } from "../../receipt/fixture.suite.ts";
import { withReceipt } from "../../receipt/issue.ts";
import { decodeReceipt, encodeReceipt, type Receipt, signReceipt } from "../../receipt/receipt.ts";
import { concatBytes } from "../../util/bytes.ts";
import { SkeinError } from "../../util/errors.ts";
import { systemClock } from "../../util/clock.ts";
import { type Random, seededRandom } from "../../util/random.ts";
import { FakeSession } from "../fixture.suite.ts";
import type { ProviderSession } from "../../network/session.ts";
import type { Engine } from "../../engine/port.ts";

/** What is sold, and what is cheaper. */
export interface CheatModels {
  readonly sold: LoadedModel;
  readonly requantized: LoadedModel;
  readonly skipped: LoadedModel;
  readonly draft: LoadedModel;
}

/** How an answer is made; what is left out is done honestly. */
export interface Making {
  /** Reads and draws. */
  readonly computes?: keyof CheatModels;
  /** Draws, while the model that is sold only reads. */
  readonly draws?: keyof CheatModels;
  readonly prompt?: (tokens: readonly number[]) => number[];
  readonly sampling?: (sampling: Sampling) => Sampling;
  readonly choose?: (choice: Choice) => number;
  /** Keys and values of so many positions are kept. */
  readonly window?: number;
  /** Then it says that the model has ended. */
  readonly endAfter?: number;
  /** Breaks off there: another provider has to go on. */
  readonly breaksAt?: number;
  /** Numbers that nobody computed. */
  readonly inventsRows?: boolean;
}

interface Choice {
  readonly drawn: number;
  readonly logits: Int32Array;
  readonly place: number;
  readonly isEnd: (token: number) => boolean;
  readonly random: Random;
}

export interface Cheat {
  readonly name: string;
  /** What the gateway sees when the answer comes, or only an audit. */
  readonly foundBy: "arrival" | "audit";
  readonly making?: Making;
  /** What becomes of its receipt; null: it sends none. */
  readonly lie?: (receipt: Receipt, earlier: readonly Receipt[]) => Partial<Receipt> | null;
  /** An old one is sent as it was. */
  readonly resends?: boolean;
}

function second(
  { drawn, logits }: Pick<Choice, "drawn" | "logits">,
  isEnd: (token: number) => boolean,
): number {
  let best = drawn === 0 ? 1 : 0;
  for (const [token, logit] of logits.entries()) {
    if (token !== drawn && !isEnd(token) && (logit > logits[best]! || isEnd(best))) best = token;
  }
  return best;
}

const hotter = (sampling: Sampling): Sampling => ({ ...sampling, temperature: sampling.temperature + 0.1 });
const otherSeed = (sampling: Sampling): Sampling => ({ ...sampling, seed: (sampling.seed + 1) >>> 0 });

export const cheats: readonly Cheat[] = [
  { name: "weights requantized to 4 bits", foundBy: "audit", making: { computes: "requantized" } },
  { name: "one layer skipped", foundBy: "audit", making: { computes: "skipped" } },
  { name: "a smaller model answers", foundBy: "audit", making: { computes: "draft" } },
  { name: "the right model reads a smaller one's text", foundBy: "audit", making: { draws: "draft" } },
  {
    name: "prompt edited",
    foundBy: "audit",
    making: {
      prompt: (tokens) => tokens.map((token, i) => (i === tokens.length >> 1 ? (token + 1) % 32 : token)),
    },
  },
  {
    name: "prompt truncated",
    foundBy: "audit",
    making: { prompt: (tokens) => tokens.slice(tokens.length >> 1) },
  },
  { name: "KV cache truncated", foundBy: "audit", making: { window: 6 } },
  { name: "temperature + 0.1", foundBy: "audit", making: { sampling: hotter } },
  { name: "another seed", foundBy: "audit", making: { sampling: otherSeed } },
  {
    name: "1 % of tokens swapped for the second best",
    foundBy: "audit",
    making: {
      // At least one in an answer.
      choose: (choice) =>
        choice.place === 3 || choice.random.next() < 0.01 ? second(choice, choice.isEnd) : choice.drawn,
    },
  },
  { name: "early end", foundBy: "audit", making: { endAfter: 4 } },
  {
    name: "answer stretched beyond its end",
    foundBy: "audit",
    making: {
      choose: (choice) =>
        choice.isEnd(choice.drawn) || choice.place > 5 ? second(choice, choice.isEnd) : choice.drawn,
    },
  },
  { name: "old answer under a fresh receipt", foundBy: "audit", making: { sampling: () => oldSampling } },
  { name: "copied tokens, invented numbers", foundBy: "audit", making: { inventsRows: true } },
  {
    name: "padded token count",
    foundBy: "arrival",
    lie: ({ outputTokens }) => ({ outputTokens: outputTokens + 3 }),
  },
  { name: "wrong price", foundBy: "arrival", lie: ({ fee }) => ({ fee: fee + 1n }) },
  { name: "omitted receipt", foundBy: "arrival", lie: () => null },
  {
    name: "forged receipt",
    foundBy: "arrival",
    lie: () => ({ providerId: "12D3KooWBKFg7ZB1TgTccxedPiRduY4tEpZvjwCyabzyWkdvCaDK" }),
  },
  { name: "old receipt sent again", foundBy: "arrival", resends: true },
  { name: "equivocation: one number twice", foundBy: "arrival", lie: () => ({ sequence: 1 }) },
  { name: "tokens not committed to", foundBy: "arrival", lie: () => ({ outputTokensHash: null }) },
];

/** With which an answer was given before to whoever asked then. */
const oldSampling: Sampling = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: 99,
};

export interface CheatingSession extends FakeSession {
  /** Ids of requests whose answer happens to be what an honest provider would have given, bit for bit: nothing can be found there. */
  readonly harmless: ReadonlySet<string>;
  trace?: NonNullable<ProviderSession["trace"]>;
}

/** A provider of the model that is sold, as the gateway sees it. */
export async function cheatingSession(models: CheatModels, cheat: Cheat): Promise<CheatingSession> {
  const signer = await makeSigner();
  const deps = { sha256, signer, clock: systemClock, chain: memoryChain() };
  const random = seededRandom(5);
  const harmless = new Set<string>();
  const session: FakeSession & Pick<CheatingSession, "harmless" | "trace"> = Object.assign(
    new FakeSession(signer.providerId, engineOf(models)),
    { harmless },
  );
  const earlier: Receipt[] = [];
  const traces = new Map<number, Made>();
  session.trace = async ({ sequence, position }) => {
    const { rows, leaves } = traces.get(sequence)!;
    return { rows: concatBytes(rows), leaves: position === null ? null : concatBytes(leaves[position]!) };
  };
  session.events = async function* (request: GenerateRequest): AsyncGenerator<GenerateEvent> {
    const { terms, ...rest } = request;
    if (terms === undefined) return yield* answerAs(models, {}, rest, random, () => undefined);
    const asked: RequestWithTerms = { ...rest, terms };
    harmless.add(rest.requestId);
    const onCheat = (): void => void harmless.delete(rest.requestId);
    const made: Made = { rows: [], leaves: [] };
    const events = answerAs(models, cheat.making ?? {}, rest, random, onCheat, made);
    for await (const event of withReceipt(deps, { engine: "cheat", opsHash }, asked, events)) {
      if (event.type !== "receipt") {
        yield event;
        continue;
      }
      const { receipt } = decodeReceipt(event.encoded);
      const change = cheat.lie === undefined ? {} : cheat.lie(receipt, earlier);
      if (change === null) continue;
      const said = cheat.resends === true && earlier.length > 0 ? earlier[0]! : { ...receipt, ...change };
      earlier.push(said);
      traces.set(said.sequence, made);
      yield { type: "receipt", encoded: encodeReceipt(await signReceipt(sha256, signer, said)) };
    }
  };
  return session;
}

/** What it says that it has computed, row by row. */
interface Made {
  readonly rows: Uint8Array[];
  readonly leaves: (readonly Uint8Array[])[];
}

/** Only what a session needs of it. */
function engineOf({ sold }: CheatModels): Engine {
  const { modelId, contextTokensMax } = sold.facts;
  return {
    kind: "exact",
    model: {
      modelId,
      name: "sold",
      contextTokensMax,
      parallelMax: 1,
      trustTier: "exact",
      resumable: true,
      features: [],
    },
    generate: () => {
      throw new Error("the session answers itself");
    },
    countPromptTokens: async (prompt) => tokenizePrompt(sold.prompt, prompt).length,
    status: () => ({ state: "ready" }),
    load: () => ({ active: 0, queued: 0 }),
    onStatus: () => () => undefined,
    close: async () => undefined,
  };
}

/** A model that reads, and commits to what it reads. */
class Reader {
  readonly #model: LoadedModel;
  readonly #window: number;
  #sequence: Sequence;
  #recorder = new CommitmentRecorder(sha256);
  #read: number[] = [];
  logits: Int32Array = new Int32Array(0);
  rows: Uint8Array[] = [];
  readonly leaves: (readonly Uint8Array[])[] = [];

  constructor(model: LoadedModel, window: number) {
    this.#model = model;
    this.#window = window;
    this.#sequence = model.executor.newSequence();
  }

  /** @param names what it says that it has read */
  read(tokens: readonly number[], names: readonly number[] = tokens): void {
    const { executor } = this.#model;
    for (const [i, input] of tokens.entries()) {
      this.#forget();
      const [logits] = executor.step(
        [{ sequence: this.#sequence, input, wantsLogits: true }],
        this.#recorder.listener(),
      );
      this.logits = logits!;
      const { row, leaves } = this.#recorder.closeNext(names[i]!);
      this.rows.push(row);
      this.leaves.push(leaves);
      this.#read.push(input);
    }
  }

  free(): void {
    this.#sequence.free();
  }

  /** Starts anew with what the window holds. */
  #forget(): void {
    if (this.#sequence.length < this.#window) return;
    this.#sequence.free();
    this.#sequence = this.#model.executor.newSequence();
    for (const input of this.#read.slice(-(this.#window >> 1))) {
      this.#model.executor.step([{ sequence: this.#sequence, input, wantsLogits: false }]);
    }
  }
}

async function* answerAs(
  models: CheatModels,
  making: Making,
  request: GenerateRequest,
  random: Random,
  onCheat: () => void,
  made: Made = { rows: [], leaves: [] },
): AsyncGenerator<GenerateEvent> {
  const { prompt, vocabulary, facts } = models.sold;
  const promptTokens = tokenizePrompt(prompt, request.prompt);
  const toRead = making.prompt?.(promptTokens) ?? promptTokens;
  const window = making.window ?? Number.POSITIVE_INFINITY;
  const reader = new Reader(models[making.computes ?? "sold"], window);
  const drawer = making.draws === undefined ? reader : new Reader(models[making.draws], window);
  const readers = drawer === reader ? [reader] : [reader, drawer];
  const take = (): Uint8Array => {
    const rows = reader.rows.map((row) => (making.inventsRows === true ? random.bytes(row.length) : row));
    reader.rows = [];
    made.rows.push(...rows);
    made.leaves.splice(0, made.leaves.length, ...reader.leaves);
    return concatBytes(rows);
  };
  yield { type: "start", promptTokens: promptTokens.length, cachedTokens: 0, promptTokenIds: promptTokens };
  const contextTokens = facts.contextTokensMax;
  const writer = new AnswerWriter(request, {
    promptTokens: promptTokens.length,
    contextTokens,
    pieces: vocabulary.pieces,
  });
  // What was not read has rows as well, of nothing.
  reader.rows = Array.from({ length: promptTokens.length - toRead.length }, () => random.bytes(32));
  for (const each of readers) each.read(toRead, promptTokens.slice(-toRead.length));
  const sampler = samplerParameters(making.sampling?.(request.sampling) ?? request.sampling);
  const due = samplerParameters(request.sampling);
  // Whoever reads honestly has cheated only where another token was drawn.
  if ((making.computes ?? making.prompt ?? making.window ?? making.inventsRows) !== undefined) onCheat();
  const counts = new Map<number, number>();
  const { tokenIds: emitted } = request.emitted;
  for (const token of emitted) counts.set(token, (counts.get(token) ?? 0) + 1);
  for (const each of readers) each.read(emitted);
  try {
    yield* writer.replayEmitted(null);
    for (let place = emitted.length; ; place++) {
      if (place === making.breaksAt) throw new SkeinError("engine_failed", "The engine broke off.");
      const { logits } = drawer;
      const { isEnd } = vocabulary;
      const drawn = sampleToken(logits, sampler, counts, place);
      const token = making.choose?.({ drawn, logits, place, isEnd, random }) ?? drawn;
      if (token !== sampleToken(reader.logits, due, counts, place) || place === making.endAfter) onCheat();
      const hasEnded = isEnd(token) || place === making.endAfter;
      const events = hasEnded ? writer.endOfGeneration() : writer.accept(token, null, null);
      for (const [i, event] of events.entries()) {
        yield i === 0 && (event.type === "tokens" || event.type === "end")
          ? { ...event, rows: take() }
          : event;
      }
      if (events.at(-1)?.type === "end") return;
      counts.set(token, (counts.get(token) ?? 0) + 1);
      for (const each of readers) each.read([token]);
    }
  } finally {
    for (const each of readers) each.free();
  }
}
