/** The one suite that every engine passes. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  type FinishReason,
  type GenerateEvent,
  type GenerateRequest,
  greedySampling,
  type TokenBias,
} from "../protocol/generate.ts";
import { type EmbedRequest, vectorValues } from "../protocol/embed.ts";
import { toHex } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";
import { queueLengthMax } from "./admission.ts";
import type { Engine } from "./port.ts";

export interface SuiteFacts {
  /** A question whose answer has at least 12 tokens. */
  readonly question: string;
  /** Whether the same request gives the same answer, and counts are exact. */
  readonly exact: boolean;
}

export interface Answer {
  readonly text: string;
  readonly tokenIds: number[];
  readonly outputTokens: number;
  readonly promptTokens: number;
  readonly finishReason: FinishReason;
}

const never = new AbortController().signal;

export function requestOf(question: string, values: Partial<GenerateRequest> = {}): GenerateRequest {
  return {
    requestId: "suite",
    modelId: "suite",
    prompt: { kind: "chat", messages: [{ role: "user", content: question }] },
    emitted: { tokenIds: [], text: "" },
    sampling: greedySampling,
    stop: [],
    constraint: null,
    logprobs: null,
    outputTokensMax: 24,
    timeoutMs: 60_000,
    ...values,
  };
}

/** Runs a request to its end and checks that its events form an answer. */
export async function answerOf(engine: Engine, request: GenerateRequest, signal = never): Promise<Answer> {
  const events: GenerateEvent[] = [];
  for await (const event of engine.generate(request, signal)) events.push(event);
  const start = events[0];
  const end = events.at(-1);
  assert.ok(start?.type === "start", "start comes first");
  assert.ok(end?.type === "end", "end comes last");
  let position = request.emitted.tokenIds.length;
  const tokens = events.slice(1, -1).map((event) => {
    assert.ok(event.type === "tokens", "tokens in between");
    assert.equal(event.position, position, "positions have no gap");
    position += event.tokenCount;
    return event;
  });
  return {
    text: tokens.map((event) => event.text).join(""),
    tokenIds: tokens.flatMap((event) => [...event.tokenIds]),
    outputTokens: end.outputTokens,
    promptTokens: end.promptTokens,
    finishReason: end.finishReason,
  };
}

function hasCode(...codes: string[]): (error: unknown) => boolean {
  return (error) => error instanceof SkeinError && codes.includes(error.code);
}

export function describeEngine(name: string, facts: SuiteFacts, make: () => Promise<Engine>): void {
  describe(`engine ${name}`, () => {
    let engine: Engine;
    before(async () => {
      engine = await make();
    });
    after(() => engine.close());
    const { question, exact } = facts;

    async function slotsAreFree(): Promise<void> {
      for (let i = 0; i < 500 && engine.load().active > 0; i++)
        await new Promise((resolve) => setTimeout(resolve, 10));
      assert.deepEqual(engine.load(), { active: 0, queued: 0 });
    }

    test("answers with text, counts and a reason", async () => {
      const answer = await answerOf(engine, requestOf(question));
      assert.ok(answer.text.length > 0);
      assert.ok(answer.outputTokens > 0 && answer.promptTokens > 0);
      assert.deepEqual(engine.load(), { active: 0, queued: 0 });
    });

    test("stops at the token limit", async () => {
      const answer = await answerOf(engine, requestOf(question, { outputTokensMax: 3 }));
      assert.equal(answer.finishReason, "length");
      assert.equal(answer.outputTokens, 3);
    });

    test("stops before a stop sequence", async () => {
      const whole = await answerOf(engine, requestOf(question));
      const stop = whole.text.slice(5, 8);
      const answer = await answerOf(engine, requestOf(question, { stop: [stop] }));
      assert.equal(answer.text, whole.text.slice(0, whole.text.indexOf(stop)));
      assert.equal(answer.finishReason, "stop");
    });

    test("what could have become a stop sequence comes out at the token limit", async () => {
      const limited = { outputTokensMax: 6 };
      const { text } = await answerOf(engine, requestOf(question, limited));
      // Its beginning is held back until the last token.
      const stop = [`${text.slice(-2)}\u{10fffd}`];
      const answer = await answerOf(engine, requestOf(question, { ...limited, stop }));
      assert.equal(answer.text, text);
      assert.equal(answer.finishReason, "length");
    });

    test("counts prompts as it charges them", async () => {
      const request = requestOf(question);
      const counted = await engine.countPromptTokens(request.prompt, never);
      const { promptTokens } = await answerOf(engine, request);
      if (exact) assert.equal(counted, promptTokens);
      else assert.ok(counted >= promptTokens, "an estimate errs on the high side");
    });

    test("leaving the loop frees the slot", async () => {
      for await (const event of engine.generate(requestOf(question), never)) {
        if (event.type === "tokens") break;
      }
      await slotsAreFree();
    });

    test("aborting ends the answer and frees the slot", async () => {
      const abort = new AbortController();
      await assert.rejects(async () => {
        for await (const event of engine.generate(requestOf(question), abort.signal)) {
          if (event.type === "tokens") abort.abort();
        }
        throw new SkeinError("cancelled", "it ended before the abort was noticed");
      }, hasCode("cancelled"));
      await slotsAreFree();
      await assert.rejects(answerOf(engine, requestOf(question), AbortSignal.abort()), hasCode("cancelled"));
      await slotsAreFree();
    });

    test("answers more requests at once than it has slots, each its own", async () => {
      const { parallelMax } = engine.model;
      const requests = Array.from({ length: 3 * parallelMax }, (_, i) => requestOf(`${question} ${i}`));
      let activeMost = 0;
      const watching = setInterval(() => (activeMost = Math.max(activeMost, engine.load().active)), 1);
      const together = await Promise.all(requests.map((request) => answerOf(engine, request))).finally(() =>
        clearInterval(watching),
      );
      assert.ok(activeMost <= parallelMax);
      const alone = [];
      for (const request of requests) alone.push(await answerOf(engine, request));
      assert.deepEqual(
        together.map(({ text }) => text),
        alone.map(({ text }) => text),
      );
    });

    test("a request that is cancelled while it waits leaves the queue, and disturbs nobody", async () => {
      const { parallelMax } = engine.model;
      const running = Array.from({ length: parallelMax }, () => answerOf(engine, requestOf(question)));
      const abort = new AbortController();
      const cancelled = assert.rejects(
        answerOf(engine, requestOf(question), abort.signal),
        hasCode("cancelled"),
      );
      const next = answerOf(engine, requestOf(question));
      assert.deepEqual(engine.load(), { active: parallelMax, queued: 2 });
      abort.abort();
      await cancelled;
      assert.ok(engine.load().queued <= 1);
      for (const answer of await Promise.all([...running, next])) assert.ok(answer.text.length > 0);
      await slotsAreFree();
    });

    test("a full queue refuses, and takes requests again later", async () => {
      const abort = new AbortController();
      const asked = Array.from({ length: engine.model.parallelMax + queueLengthMax }, () =>
        assert.rejects(answerOf(engine, requestOf(question), abort.signal), hasCode("cancelled")),
      );
      assert.deepEqual(engine.load(), { active: engine.model.parallelMax, queued: queueLengthMax });
      await assert.rejects(answerOf(engine, requestOf(question)), hasCode("overloaded"));
      abort.abort();
      await Promise.all(asked);
      await slotsAreFree();
      assert.ok((await answerOf(engine, requestOf(question))).text.length > 0);
    });

    test("refuses a prompt longer than the context", { skip: !exact }, async () => {
      const long = requestOf("moo ".repeat(8 * engine.model.contextTokensMax));
      await assert.rejects(answerOf(engine, long), hasCode("context_length_exceeded"));
      await slotsAreFree();
    });

    test("the same seed gives the same answer, another seed another one", { skip: !exact }, async () => {
      const seeded = (seed: number): GenerateRequest =>
        requestOf(question, { sampling: { ...greedySampling, temperature: 1, seed } });
      const first = await answerOf(engine, seeded(1));
      assert.deepEqual(await answerOf(engine, seeded(1)), first);
      const others = await Promise.all([2, 3, 4, 5, 6].map((seed) => answerOf(engine, seeded(seed))));
      assert.ok(others.some(({ text }) => text !== first.text));
    });

    async function eventsOf(request: GenerateRequest): Promise<GenerateEvent[]> {
      const events: GenerateEvent[] = [];
      for await (const event of engine.generate(request, never)) events.push(event);
      return events;
    }

    test("continues from every position without a seam", { skip: !exact }, async () => {
      const plain = requestOf(question, { sampling: { ...greedySampling, temperature: 1, seed: 9 } });
      const { text: spoken } = await answerOf(engine, plain);
      // No stop sequence; one whose beginning is held back to the end; one that ends the answer.
      for (const stop of [[], [`${spoken.slice(-2)}\u{10fffd}`], [spoken.slice(9, 12)]]) {
        const request = { ...plain, stop };
        const events = await eventsOf(request);
        const end = events.at(-1);
        assert.ok(end?.type === "end");
        const tokens = events.filter((event) => event.type === "tokens");
        const whole = tokens.map(({ text }) => text).join("");
        // After the last cut only the end is missing.
        for (let cut = 0; cut <= tokens.length; cut++) {
          const sent = tokens.slice(0, cut);
          const emitted = {
            tokenIds: sent.flatMap(({ tokenIds }) => [...tokenIds]),
            text: sent.map(({ text }) => text).join(""),
          };
          const rest = await answerOf(engine, { ...request, emitted });
          assert.equal(emitted.text + rest.text, whole, `cut at ${cut}, stop ${stop[0]}`);
          assert.equal(rest.finishReason, end.finishReason);
          assert.equal(rest.outputTokens, end.outputTokens);
        }
      }
    });

    test("a bias bans and forces tokens, also in what goes on elsewhere", { skip: !exact }, async () => {
      const biased = (logitBias: readonly TokenBias[], values: Partial<GenerateRequest> = {}) =>
        answerOf(
          engine,
          requestOf(question, {
            sampling: { ...greedySampling, temperature: 1, seed: 5, logitBias },
            outputTokensMax: 8,
            ...values,
          }),
        );
      const { tokenIds: plain } = await biased([]);
      const [first, , third] = plain as [number, number, number];
      const banned = [...new Set(plain)].map((id) => [id, -100] as const);
      const without = await biased(banned);
      assert.ok(without.tokenIds.length > 0);
      assert.ok(without.tokenIds.every((id) => !plain.includes(id)));
      const forced = await biased([
        [first, -100],
        [third, 100],
      ]);
      assert.deepEqual(forced.tokenIds, Array(8).fill(third));
      for (const { logitBias, whole } of [
        { logitBias: banned, whole: without },
        { logitBias: [[third, 100] as const], whole: forced },
      ]) {
        const emitted = { tokenIds: whole.tokenIds.slice(0, 3), text: "" };
        const rest = await biased(logitBias, { emitted });
        assert.deepEqual(rest.tokenIds, whole.tokenIds.slice(3));
      }
      await assert.rejects(
        biased([[2 ** 32 - 1, 1]]),
        (error) => hasCode("invalid_request")(error) && (error as SkeinError).param === "logit_bias",
      );
    });

    test("scores of its own answer are next to 0; of another's they are not", async (context) => {
      if (engine.score === undefined) return context.skip("this engine has no scores");
      for (const temperature of [0, 1]) {
        const request = requestOf(question, { sampling: { ...greedySampling, temperature, seed: 5 } });
        const { tokenIds, finishReason, text } = await answerOf(engine, request);
        const claim = { request, tokenIds, isEnded: finishReason === "stop", chunkTokens: null };
        const own = await engine.score(claim, never);
        assert.equal(own.text, text);
        assert.equal(own.margins.length, tokenIds.length + (claim.isEnded ? 1 : 0));
        assert.equal(own.logProbabilities.length, own.margins.length);
        assert.ok(
          own.margins.every((margin) => margin >= 0 && margin < 0.5),
          `margins ${own.margins.join(" ")}`,
        );
        assert.ok(own.logProbabilities.every((value) => value <= 0));
        const other = tokenIds.toReversed();
        const foreign = await engine.score({ ...claim, tokenIds: other }, never);
        assert.ok(foreign.margins.filter((margin) => margin > 1).length > other.length / 4, "backwards");
      }
      await slotsAreFree();
    });

    test("who scores an answer that a stop sequence ended does not expect that the model ended it", async (context) => {
      if (engine.score === undefined) return context.skip("this engine has no scores");
      const whole = await answerOf(engine, requestOf(question));
      const request = requestOf(question, { stop: [whole.text.slice(2, 4)] });
      const { tokenIds, finishReason, text } = await answerOf(engine, request);
      assert.equal(finishReason, "stop");
      const scores = await engine.score({ request, tokenIds, isEnded: true, chunkTokens: null }, never);
      assert.equal(scores.text, text);
      assert.equal(scores.margins.length, tokenIds.length);
    });

    test("scoring can be cancelled, and refuses what does not exist", async (context) => {
      if (engine.score === undefined) return context.skip("this engine has no scores");
      const claim = { request: requestOf(question), tokenIds: [5, 6], isEnded: false, chunkTokens: null };
      await assert.rejects(engine.score(claim, AbortSignal.abort()), hasCode("cancelled"));
      const abort = new AbortController();
      const cancelled = assert.rejects(engine.score(claim, abort.signal), hasCode("cancelled"));
      abort.abort();
      await cancelled;
      const unknown = { ...claim, tokenIds: [5, 2 ** 31] };
      await assert.rejects(engine.score(unknown, never), hasCode("invalid_request"));
      const long = { ...claim, tokenIds: Array.from({ length: engine.model.contextTokensMax }, () => 5) };
      await assert.rejects(engine.score(long, never), hasCode("context_length_exceeded"));
      assert.equal((await engine.score(claim, never)).margins.length, 2);
      await slotsAreFree();
    });

    const toEmbed = (texts: readonly string[], dimensions: number | null = null): EmbedRequest => ({
      requestId: "suite",
      modelId: "suite",
      inputs: texts.map((text) => ({ kind: "text", text })),
      dimensions,
      timeoutMs: 60_000,
    });

    test("texts become vectors of unit length, each its own and the same again", async () => {
      assert.ok(engine.model.features.includes("embeddings"));
      const texts = Array.from({ length: 2 * engine.model.parallelMax + 1 }, (_, i) => `${question} ${i}`);
      const { vectors, promptTokens, durationMs } = await engine.embed!(toEmbed(texts), never);
      assert.equal(vectors.length, texts.length);
      assert.ok(promptTokens >= texts.length && durationMs >= 0);
      for (const vector of vectors) {
        assert.equal(vector.length, vectors[0]!.length);
        const length = vectorValues(vector).reduce((sum, value) => sum + value * value, 0);
        assert.ok(Math.abs(length - 1) < 1e-4, `length ${length}`);
      }
      assert.equal(new Set(vectors.map((vector) => toHex(vector))).size, texts.length);
      // One alone is what it was among others.
      const alone = await engine.embed!(toEmbed([texts[1]!]), never);
      const [first, second] = [vectorValues(alone.vectors[0]!), vectorValues(vectors[1]!)];
      assert.ok(first.every((value, i) => Math.abs(value - second[i]!) < (exact ? 1e-6 : 1e-3)));
      await slotsAreFree();
    });

    test("dimensions that the model does not have are refused", async () => {
      const own = (await engine.embed!(toEmbed(["goose"]), never)).vectors[0]!.length / 4;
      assert.equal((await engine.embed!(toEmbed(["goose"], own), never)).vectors[0]!.length, 4 * own);
      await assert.rejects(engine.embed!(toEmbed(["goose"], own + 1), never), (error) =>
        hasCode("unsupported_parameter", "upstream_failed", "invalid_request")(error),
      );
      await slotsAreFree();
    });

    test("embeddings can be cancelled, and too long inputs are refused", async () => {
      await assert.rejects(engine.embed!(toEmbed(["goose"]), AbortSignal.abort()), hasCode("cancelled"));
      const abort = new AbortController();
      const cancelled = assert.rejects(
        engine.embed!(toEmbed(Array.from({ length: 32 }, (_, i) => `${question} ${i}`)), abort.signal),
        hasCode("cancelled"),
      );
      abort.abort();
      await cancelled;
      const long = "moo ".repeat(8 * engine.model.contextTokensMax);
      if (exact)
        await assert.rejects(engine.embed!(toEmbed([long]), never), hasCode("context_length_exceeded"));
      const { vectors } = await engine.embed!(toEmbed(["still here"]), never);
      assert.equal(vectors.length, 1);
      await slotsAreFree();
    });

    test("after closing, whatever runs or comes fails clearly", async () => {
      const running = assert.rejects(answerOf(engine, requestOf(question)), hasCode("engine_unavailable"));
      await engine.close();
      await engine.close();
      await running;
      await assert.rejects(
        answerOf(engine, requestOf(question)),
        hasCode("engine_unavailable", "upstream_failed"),
      );
    });
  });
}
