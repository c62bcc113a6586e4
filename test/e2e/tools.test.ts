/** Calls of functions with the official client, over real processes of both engines: agent loops, and a provider's death. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";
import { Pool, untilAvailable } from "./pool.ts";
import { killAll, type Running, skein, stop, temporaryHome } from "./processes.ts";

const home = temporaryHome();
let gateway: Running;
let exact: Pool;
let openai: OpenAI;

before(async () => {
  gateway = skein(home.path, "gateway", "--port", "0", "--network-port", "0");
  const [url] = await gateway.printed(/http:\/\/127\.0\.0\.1:\d+/);
  exact = new Pool(home.path, "exact", url);
  const llama = new Pool(home.path, "llama", url);
  await Promise.all([exact.grow(2), llama.grow(1)]);
  await Promise.all([untilAvailable(url, exact.model, 2), untilAvailable(url, llama.model, 1)]);
  openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
});

after(async () => {
  try {
    await stop(gateway);
  } finally {
    await killAll();
  }
  home.remove();
});

type Call = { readonly id: string; readonly function: { readonly name: string; readonly arguments: string } };

const places = ["north", "south", "east", "west"];
const functions: Record<string, (given: Record<string, unknown>) => string> = {
  move: ({ to, steps }) => {
    assert.ok(places.includes(String(to)));
    assert.ok(Number.isInteger(steps) && Number(steps) >= 1 && Number(steps) <= 9);
    return `You went ${String(to)}.`;
  },
  look: (given) => {
    assert.deepEqual(given, {});
    return "Grass, and a goose.";
  },
};

function answered({ function: { name, arguments: given } }: Call): string {
  return functions[name]!(JSON.parse(given) as Record<string, unknown>);
}

const tools: OpenAI.ChatCompletionTool[] = [
  {
    type: "function",
    function: {
      name: "move",
      description: "Moves the fox.",
      strict: true,
      parameters: {
        type: "object",
        properties: { to: { enum: places }, steps: { type: "integer", minimum: 1, maximum: 9 } },
        required: ["to", "steps"],
        additionalProperties: false,
      },
    },
  },
  { type: "function", function: { name: "look", description: "Looks around." } },
];

for (const model of ["tiny-exact", "tiny"]) {
  test(`${model}: an agent calls functions, hears of their answers, and calls again`, async () => {
    const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "Find the goose." }];
    const ids = new Set<string>();
    for (let turn = 0; turn < 3; turn++) {
      const named = { type: "function" as const, function: { name: "look" } };
      const body = {
        model,
        messages,
        tools,
        tool_choice: turn === 2 ? named : ("required" as const),
        parallel_tool_calls: false,
        seed: turn,
        max_tokens: 60,
      };
      const { message, finish_reason: finish } = (await openai.chat.completions.create(body)).choices[0]!;
      assert.equal(finish, "tool_calls");
      assert.equal(message.content, null);
      const [call, ...others] = message.tool_calls as Call[];
      assert.ok(others.length === 0 && !ids.has(call!.id));
      ids.add(call!.id);
      if (turn === 2) assert.equal(call!.function.name, "look");
      const streamed = await openai.chat.completions.stream(body).finalChatCompletion();
      const [again] = streamed.choices[0]!.message.tool_calls as Call[];
      assert.equal(again!.function.name, call!.function.name);
      assert.equal(again!.function.arguments, call!.function.arguments);
      messages.push(message, { role: "tool", tool_call_id: call!.id, content: answered(call!) });
    }
    const last = await openai.chat.completions.create({
      model,
      messages,
      tools,
      tool_choice: "none",
      max_tokens: 8,
    });
    assert.ok(last.choices[0]!.message.content!.length > 0);
    // Several at once; only the last may be cut.
    const many = await openai.chat.completions.create({
      model,
      messages: messages.slice(0, 1),
      tools,
      tool_choice: "required",
      max_tokens: 100,
    });
    const calls = many.choices[0]!.message.tool_calls as Call[];
    const whole = many.choices[0]!.finish_reason === "length" ? calls.slice(0, -1) : calls;
    assert.ok(calls.length > 0);
    for (const call of whole) answered(call);
  });
}

test("a call whose provider dies in its middle is whole, and the same", async () => {
  const path = {
    type: "object",
    properties: { path: { type: "array", items: { enum: places }, minItems: 25, maxItems: 25 } },
    required: ["path"],
  };
  const walk = { type: "function" as const, function: { name: "walk", strict: true, parameters: path } };
  const body = {
    model: exact.model,
    messages: [{ role: "user" as const, content: "Walk." }],
    tools: [walk],
    tool_choice: "required" as const,
    parallel_tool_calls: false,
    seed: 5,
    temperature: 1,
    max_tokens: 400,
  };
  const undisturbed = (await openai.chat.completions.create(body)).choices[0]!;
  const [expected] = undisturbed.message.tool_calls as Call[];
  assert.equal(undisturbed.finish_reason, "tool_calls");
  let text = "";
  let pieces = 0;
  for await (const { choices } of await openai.chat.completions.create({ ...body, stream: true })) {
    const part = choices[0]?.delta.tool_calls?.[0]?.function?.arguments ?? "";
    text += part;
    // Whoever it is: the other one goes on.
    if (part !== "" && ++pieces === 3) exact.members[0]!.child.kill("SIGKILL");
  }
  assert.equal(text, expected!.function.arguments);
  assert.equal((JSON.parse(text) as { path: string[] }).path.length, 25);
});
