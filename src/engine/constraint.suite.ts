/** Answers of a given form, and log probabilities: the same for every engine that draws its tokens itself. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { toolCallGrammar } from "../grammar/tool-calls.ts";
import { toolFormats } from "../protocol/offer.ts";
import { readAnswer } from "../tools/answer-reader.ts";
import { jsonSchemaGrammar } from "../grammar/json-schema.ts";
import type { Schema } from "../grammar/schema-keywords.ts";
import { type Constraint, greedySampling, type Sampling, type TokenLogprob } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import { type Answer, ask, collect, emittedAfter } from "./asking.suite.ts";
import { isValid, schemas } from "./masks/schema-cases.suite.ts";
import type { Engine } from "./port.ts";

const question = "Tell me about a fox as JSON.";
const warm: Sampling = { ...greedySampling, temperature: 1, seed: 5 };
const person: Schema = {
  type: "object",
  properties: {
    name: { type: "string" },
    age: { type: "integer", minimum: 1, maximum: 120 },
    tags: { type: "array", items: { enum: ["red", "quick"] }, maxItems: 3 },
  },
  required: ["name", "age", "tags"],
};

function constraintOf(schema: Schema): Constraint {
  return { grammar: jsonSchemaGrammar(schema), responseFormat: null };
}

function logprobsOf(answer: Answer): TokenLogprob[] {
  return answer.tokens.flatMap(({ logprobs }) => logprobs ?? []);
}

/** @param open the engine, once it is there */
export function describeConstraints(open: () => Engine): void {
  test("answers have the form of their schema, greedy and drawn", async () => {
    const cases = fc.sample(schemas, { numRuns: 8, seed: 20_260_101 });
    let whole = 0;
    await Promise.all(
      cases.map(async (schema, i) => {
        const sampling =
          i % 3 === 0 ? greedySampling : { ...warm, seed: i, topP: 0.95, topK: i % 2 ? 40 : 0 };
        const request = ask(question, { sampling, constraint: constraintOf(schema), outputTokensMax: 120 });
        const { text, end } = await collect(open(), request);
        if (end.finishReason === "length") return;
        whole += 1;
        assert.ok(isValid(schema, text), `${JSON.stringify(schema)} does not allow ${text}`);
      }),
    );
    assert.ok(whole > cases.length / 2, `only ${whole} answers came to an end`);
  });

  test("an answer of a form goes on elsewhere, wherever it is cut", async () => {
    for (const sampling of [greedySampling, { ...warm, presencePenalty: 0.5 }]) {
      const request = { sampling, constraint: constraintOf(person), outputTokensMax: 40, stop: ["@@", '"}'] };
      const whole = await collect(open(), ask(question, request));
      // Four at a time: an engine's queue is short.
      const cuts = whole.tokenIds.length + 1;
      const walkFrom = async (first: number): Promise<void> => {
        for (let cut = first; cut < cuts; cut += 4) {
          const emitted = emittedAfter(whole, cut);
          const rest = await collect(open(), ask(question, { ...request, emitted }));
          assert.equal(emitted.text + rest.text, whole.text, `cut at ${cut}`);
          assert.equal(rest.end.finishReason, whole.end.finishReason, `cut at ${cut}`);
        }
      };
      await Promise.all([0, 1, 2, 3].map(walkFrom));
    }
  });

  test("calls of functions in every format, asked for or not, from any cut", async () => {
    const parameters: Schema = {
      type: "object",
      properties: { to: { enum: ["left", "right"] }, steps: { type: "integer", minimum: 1, maximum: 99 } },
      required: ["to", "steps"],
    };
    const names = new Set(["turn", "stop"]);
    const functions = [...names].map((name) => ({ name, parameters, isStrict: true }));
    for (const format of toolFormats) {
      const form = { functions, isRequired: true, isParallel: false };
      const constraint = { grammar: toolCallGrammar(form, format, null)!, responseFormat: null };
      const request = { sampling: warm, constraint, outputTokensMax: 120 };
      const whole = await collect(open(), ask(question, request));
      const reading = { calls: { format, names, callsMax: 9 }, thoughts: null };
      const read = readAnswer(reading, whole.text, "stop");
      assert.deepEqual(
        [read.content, read.calls.length, whole.end.finishReason],
        ["", 1, "stop"],
        whole.text,
      );
      assert.ok(isValid(parameters, read.calls[0]!.arguments), whole.text);
      const emitted = emittedAfter(whole, whole.tokenIds.length >> 1);
      const rest = await collect(open(), ask(question, { ...request, emitted }));
      assert.equal(emitted.text + rest.text, whole.text);
      // Where it need not come, the same call may go on, and a mark alone leads to one.
      const free = toolCallGrammar({ ...form, isRequired: false }, format, null);
      if (free === null) continue;
      const allowed = { ...request, constraint: { grammar: free, responseFormat: null } };
      const again = await collect(open(), ask(question, { ...allowed, emitted }));
      assert.ok(readAnswer(reading, emitted.text + again.text, "length").calls.length > 0);
      const words = await collect(open(), ask(question, { ...allowed, sampling: greedySampling }));
      const unbound = await collect(open(), ask(question, { outputTokensMax: 120 }));
      assert.equal(words.text, unbound.text);
    }
  });

  test("an answer that is complete ends, also with its last token; a shorter one is cut", async () => {
    const constraint: Constraint = { grammar: 'root ::= "yes" | "no"', responseFormat: null };
    const whole = await collect(open(), ask(question, { constraint }));
    assert.match(whole.text, /^(yes|no)$/);
    assert.equal(whole.end.finishReason, "stop");
    const outputTokensMax = whole.tokenIds.length;
    const exactly = await collect(open(), ask(question, { constraint, outputTokensMax }));
    assert.deepEqual([exactly.text, exactly.end.finishReason], [whole.text, "stop"]);
    const short = await collect(
      open(),
      ask(question, { constraint: constraintOf(person), outputTokensMax: 2 }),
    );
    assert.equal(short.end.finishReason, "length");
  });

  test("a grammar that is none is refused, and so is an answer that it did not make; others go on", async () => {
    const running = collect(open(), ask(question, { constraint: constraintOf(person) }));
    const refused = (error: unknown): boolean =>
      error instanceof SkeinError && error.code === "invalid_request";
    for (const grammar of ["root ::= nothing", 'root ::= "', "no grammar", 'root ::= "x" | "'.repeat(500)]) {
      const constraint = { grammar, responseFormat: null };
      await assert.rejects(collect(open(), ask(question, { constraint })), refused);
    }
    const { tokenIds } = await collect(open(), ask(question, { outputTokensMax: 4 }));
    const emitted = { tokenIds, text: "" };
    await assert.rejects(
      collect(open(), ask(question, { constraint: constraintOf(person), emitted })),
      refused,
    );
    assert.ok((await running).text.startsWith('{"name": "'));
    assert.deepEqual(open().load(), { active: 0, queued: 0 });
  });

  test("a bias counts among what is allowed, and allows nothing else", async () => {
    const constraint: Constraint = { grammar: 'root ::= [ab]+ "."', responseFormat: null };
    const free = await collect(open(), ask(question, { outputTokensMax: 1 }));
    const logitBias = [[free.tokenIds[0]!, 100] as const];
    const sampling = { ...warm, logitBias };
    const { text } = await collect(open(), ask(question, { constraint, sampling, outputTokensMax: 20 }));
    assert.match(text, /^[ab]+\.?$/);
  });

  test("log probabilities are the model's own, whatever is drawn and however", async () => {
    const at0 = async (sampling: Sampling, constraint: Constraint | null = null): Promise<TokenLogprob> => {
      const answer = await collect(
        open(),
        ask(question, { sampling, constraint, logprobs: 20, outputTokensMax: 1 }),
      );
      return logprobsOf(answer)[0]!;
    };
    const greedy = await at0(greedySampling);
    assert.deepEqual({ bytes: greedy.bytes, logprob: greedy.logprob }, greedy.top[0]);
    assert.equal(greedy.top.length, 20);
    assert.deepEqual(
      greedy.top,
      greedy.top.toSorted((a, b) => b.logprob - a.logprob),
    );
    const share = greedy.top.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0);
    assert.ok(share > 0.5 && share < 1.001, `the first 20 have ${share} in all`);
    const close = (a: number, b: number): boolean => Math.abs(a - b) < 0.02;
    for (const other of [
      await at0({ ...warm, temperature: 2, topK: 2, logitBias: [[7, -100]] }),
      await at0(warm, constraintOf(person)),
    ]) {
      // A batch of another size rounds otherwise.
      assert.ok(other.top.every(({ logprob }, i) => close(logprob, greedy.top[i]!.logprob)));
    }
    const forced = await at0({ ...greedySampling, logitBias: [[11, 100]] });
    assert.ok(forced.logprob < 0 && forced.logprob <= forced.top[0]!.logprob);
  });

  test("every token has its log probability, also behind a seam; without asking there is none", async () => {
    const request = { sampling: warm, logprobs: 2, outputTokensMax: 12 };
    const whole = await collect(open(), ask(question, request));
    const scores = logprobsOf(whole);
    assert.equal(scores.length, whole.tokenIds.length);
    assert.equal(Buffer.concat(scores.map(({ bytes }) => bytes)).toString(), whole.text);
    assert.ok(scores.every(({ top }) => top.length === 2));
    const rest = await collect(open(), ask(question, { ...request, emitted: emittedAfter(whole, 5) }));
    logprobsOf(rest).forEach(({ logprob }, i) => {
      assert.ok(Math.abs(logprob - scores[5 + i]!.logprob) < 0.02);
    });
    const none = await collect(open(), ask(question, { logprobs: 0, outputTokensMax: 2 }));
    assert.deepEqual(
      logprobsOf(none).map(({ top }) => top.length),
      none.tokenIds.map(() => 0),
    );
    const unasked = await collect(open(), ask(question, { outputTokensMax: 2 }));
    assert.ok(unasked.tokens.every((event) => !("logprobs" in event)));
  });
}
