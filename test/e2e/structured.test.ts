/** Answers of a given form and log probabilities with the official client, over real processes of both engines. */
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { localNetwork } from "./local-network.ts";

let openai: OpenAI;
const network = localNetwork({ exact: 2, llama: 1 }, ({ url }) => {
  openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
});
const models = ["tiny-exact", "tiny"];

const Fox = z.object({
  name: z.string().max(12),
  age: z.int().min(1).max(20),
  mood: z.enum(["happy", "sad"]),
  friends: z.array(z.object({ name: z.string().max(8), kind: z.literal("goose") })).max(2),
  home: z.object({ street: z.string().max(10) }).nullable(),
});
const messages = [{ role: "user" as const, content: "Describe a fox as JSON." }];
const shared = { messages, seed: 3, temperature: 1, max_tokens: 150 };
const response_format = zodResponseFormat(Fox, "fox");

interface Streamed {
  readonly text: string;
  readonly logprobs: OpenAI.ChatCompletionTokenLogprob[];
  readonly finishReason: string | null;
}

async function streamed(body: Omit<OpenAI.ChatCompletionCreateParamsStreaming, "stream">): Promise<Streamed> {
  let text = "";
  let finishReason: string | null = null;
  const logprobs: OpenAI.ChatCompletionTokenLogprob[] = [];
  for await (const { choices } of await openai.chat.completions.create({ ...body, stream: true })) {
    text += choices[0]?.delta.content ?? "";
    logprobs.push(...(choices[0]?.logprobs?.content ?? []));
    finishReason = choices[0]?.finish_reason ?? finishReason;
  }
  return { text, logprobs, finishReason };
}

for (const model of models) {
  test(`${model}: a zod schema is parsed by the official client`, async () => {
    let whole = 0;
    for (const seed of [1]) {
      const answer = await openai.chat.completions.create({ ...shared, model, seed, response_format });
      const [choice] = answer.choices;
      if (choice!.finish_reason !== "stop") continue;
      whole += 1;
      Fox.parse(JSON.parse(choice!.message.content!));
      assert.equal(choice!.message.refusal, null);
    }
    assert.ok(whole > 0, "it comes to an end");
  });

  test(`${model}: JSON mode, an expression, a grammar`, async () => {
    const answerTo = async (format: unknown): Promise<string> => {
      const given = format as typeof response_format;
      const { choices } = await openai.chat.completions.create({ ...shared, model, response_format: given });
      return choices[0]!.finish_reason === "stop" ? choices[0]!.message.content! : "{}";
    };
    assert.equal(typeof JSON.parse(await answerTo({ type: "json_object" })), "object");
    assert.match(await answerTo({ type: "regex", pattern: "^(red|green)-\\d{3}$" }), /^(red|green)-\d{3}$/);
    assert.match(await answerTo({ type: "grammar", grammar: 'root ::= "yes" | "no"' }), /^(yes|no)$/);
    const broken = openai.chat.completions.create({
      ...shared,
      model,
      response_format: { type: "grammar", grammar: "root ::= nothing" } as never,
    });
    await assert.rejects(
      broken,
      (error: unknown) =>
        error instanceof OpenAI.BadRequestError &&
        error.param === "response_format" &&
        /"nothing" is not defined/.test(error.message),
    );
  });

  test(`${model}: streamed or not, text and log probabilities are the same, and no stop sequence shows`, async () => {
    const body = { ...shared, model, logprobs: true, top_logprobs: 2, max_tokens: 24 };
    const { choices } = await openai.chat.completions.create(body);
    const text = choices[0]!.message.content!;
    const cuts = [null, text.slice(4, 6), text.slice(9, 12), text.slice(-3), `${text.slice(-2)}\u{10fffd}`];
    for (const stopAt of cuts) {
      const asked = { ...body, ...(stopAt === null ? {} : { stop: [stopAt] }) };
      const once = (await openai.chat.completions.create(asked)).choices[0]!;
      const whole = once.logprobs!.content!;
      const parts = await streamed(asked);
      assert.equal(parts.text, once.message.content);
      assert.deepEqual(parts.logprobs, whole);
      assert.equal(parts.finishReason, once.finish_reason);
      const told = whole.map(({ token }) => token).join("");
      if (stopAt === null) assert.equal(told, text);
      else assert.ok(!text.includes(stopAt) || !told.slice(0, -1).includes(stopAt), `${stopAt} in ${told}`);
      assert.ok(whole.every(({ logprob, top_logprobs: top }) => logprob <= 0 && top.length === 2));
    }
  });

  test(`${model}: log probabilities of the older endpoint`, async () => {
    const request = { model, prompt: "A fox", max_tokens: 6, logprobs: 3, temperature: 0 };
    const [choice] = (await openai.completions.create(request)).choices;
    const { tokens, token_logprobs: scores, top_logprobs: top, text_offset: offsets } = choice!.logprobs!;
    assert.equal(tokens!.join(""), choice!.text);
    assert.deepEqual(
      offsets,
      tokens!.map((_, i) => tokens!.slice(0, i).join("").length),
    );
    scores!.forEach((score, i) => assert.equal(top![i]![tokens![i]!], score));
  });
}

test("an answer whose provider dies stays valid, with every log probability once", async () => {
  const body = { ...shared, model: network.exact.model, response_format, logprobs: true, top_logprobs: 1 };
  const undisturbed = await streamed(body);
  let text = "";
  const logprobs: OpenAI.ChatCompletionTokenLogprob[] = [];
  const stream = await openai.chat.completions.create({ ...body, stream: true });
  for await (const { choices } of stream) {
    const isFirst = text === "";
    text += choices[0]?.delta.content ?? "";
    logprobs.push(...(choices[0]?.logprobs?.content ?? []));
    // Whoever it is: the other one goes on.
    if (isFirst && text !== "") network.exact.members[0]!.child.kill("SIGKILL");
  }
  assert.equal(text, undisturbed.text);
  assert.deepEqual(logprobs, undisturbed.logprobs);
});
