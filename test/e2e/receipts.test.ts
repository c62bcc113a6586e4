/** Receipts as a user meets them: fetched, checked on the command line, through the death of a provider. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { localNetwork } from "./local-network.ts";
import { type Pool, providersOf, untilAvailable } from "./pool.ts";
import { eventually, skeinToEnd, tinyModel } from "./processes.ts";

const network = localNetwork({ exact: 2, llama: 1 });
const { home } = network;
const draftModel = tinyModel.replace("tiny.Q8_0", "draft.F16");

interface Asked {
  readonly id: string;
  readonly text: string;
  readonly receipt: string | null;
}

async function chat(model: string, body: object): Promise<Asked> {
  const messages = [{ role: "user", content: "What sound does a cow make?" }];
  const response = await fetch(`${network.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, messages, temperature: 1, max_tokens: 60, ...body }),
  });
  const answer = (await response.json()) as { id: string; choices: { message: { content: string } }[] };
  const receipt = response.headers.get("x-skein-receipt");
  return { id: answer.id, text: answer.choices[0]!.message.content, receipt };
}

async function fetchReceipt(id: string): Promise<string> {
  const file = join(home.path, `${id}.json`);
  const { code, output } = await skeinToEnd(home.path, "receipt", id, file, "--gateway", network.url);
  assert.equal(code, 0, output);
  return file;
}

const verify = (...args: string[]): Promise<{ code: number | null; output: string }> =>
  skeinToEnd(home.path, "verify", ...args);

/** The same file with something else at a path. */
function altered(
  file: string,
  path: readonly (string | number)[],
  change: (value: never) => unknown,
): string {
  const document: unknown = JSON.parse(readFileSync(file, "utf8"));
  let at = document as Record<string | number, unknown>;
  for (const key of path.slice(0, -1)) at = at[key] as typeof at;
  const last = path.at(-1)!;
  at[last] = change(at[last] as never);
  const other = `${file}.${path.at(-1)}.json`;
  writeFileSync(other, JSON.stringify(document));
  return other;
}

test("an answer of an exact model is proved by its receipt, and nothing altered is", async () => {
  const { id, text, receipt } = await chat("tiny-exact", {
    stop: ["zzz"],
    frequency_penalty: 0.5,
    top_p: 0.95,
  });
  assert.match(receipt!, /^[0-9a-f]{64}$/);
  const file = await fetchReceipt(id);
  const part = ["choices", 0, "parts", 0] as const;
  const { choices } = JSON.parse(readFileSync(file, "utf8")) as {
    choices: { parts: { output: { text: string } }[] }[];
  };
  assert.equal(choices[0]!.parts[0]!.output.text, text);
  const whole = await verify(file, "--model", "tiny-exact");
  assert.equal(whole.code, 0, whole.output);
  assert.match(whole.output, /Computed again: all \d+ positions/);
  const lies = [
    [altered(file, [...part, "output", "text"], (value: string) => `${value}!`), /its text is not the one/],
    [
      altered(file, [...part, "receipt", "execution", "root"], (value: string) =>
        value.split("").toReversed().join(""),
      ),
      /signature: it is not signed/,
    ],
    [
      altered(file, ["choices", 0, "prompt", "messages", 0, "content"], () => "What sound does a dog make?"),
      /it belongs to another prompt/,
    ],
  ] as const;
  for (const [lie, why] of lies) {
    const { code, output } = await verify(lie);
    assert.equal(code, 1, output);
    assert.match(output, why);
  }
});

test("an answer of a form is computed again within that form", async () => {
  const schema = {
    type: "object",
    properties: { sound: { enum: ["moo", "baa"] }, loud: { type: "boolean" } },
    required: ["sound", "loud"],
  };
  const response_format = { type: "json_schema", json_schema: { name: "cow", schema } };
  const { id, text } = await chat("tiny-exact", { response_format });
  assert.match(text, /^\{"sound": "(moo|baa)", "loud": (true|false)\}$/);
  const { code, output } = await verify(await fetchReceipt(id), "--model", tinyModel);
  assert.equal(code, 0, output);
});

test("an answer with tools is computed again, its calls and what the model was told of them included", async () => {
  const call = { id: "call_1", type: "function", function: { name: "listen", arguments: '{"to": "a cow"}' } };
  const messages = [
    { role: "user", content: "What sound does a cow make?" },
    { role: "assistant", content: null, tool_calls: [call] },
    { role: "tool", tool_call_id: "call_1", content: "moo" },
  ];
  const parameters = { type: "object", properties: { loud: { type: "boolean" } }, required: ["loud"] };
  const tools = [{ type: "function", function: { name: "answer", parameters } }];
  const body = { messages, tools, tool_choice: "required", parallel_tool_calls: false };
  const file = await fetchReceipt((await chat("tiny-exact", body)).id);
  const told = await verify(file, "--model", tinyModel);
  assert.equal(told.code, 0, told.output);
  // Other words of a function are another prompt.
  const document = readFileSync(file, "utf8");
  assert.ok(document.includes("a cow"));
  writeFileSync(file, document.replace("a cow", "a dog"));
  assert.equal((await verify(file)).code, 1);
});

test("an answer of llama.cpp fits its model; another prompt's does not", async () => {
  const { id } = await chat("tiny", { stop: ["zzz"] });
  const file = await fetchReceipt(id);
  const told = await verify(file);
  assert.equal(told.code, 0, told.output);
  assert.match(told.output, /rounding leaves no proof/);
  const fits = await verify(file, "--model", tinyModel);
  assert.equal(fits.code, 0, fits.output);
  assert.match(fits.output, /It fits: \d+ of \d+ tokens .* only gross differences/);
  const other = await verify(file, "--model", draftModel, "--json");
  assert.equal(other.code, 2);
  assert.match(other.output, /"verdict": "unknown"/);
  assert.match(other.output, /but '.*' is gguf-sha256:/);
});

test("an answer that its client cancelled has a receipt of what was delivered", async () => {
  for (const [model, of] of [
    ["tiny-exact", tinyModel],
    ["tiny", tinyModel],
  ] as const) {
    const leave = new AbortController();
    const response = await fetch(`${network.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      signal: leave.signal,
      body: JSON.stringify({
        model,
        prompt: "Once upon a time",
        temperature: 2,
        max_tokens: 400,
        seed: 3,
        stream: true,
      }),
    });
    const id = response.headers.get("x-request-id")!;
    const reader = response.body!.getReader();
    for (let i = 0; i < 5; i++) await reader.read();
    leave.abort();
    const signed = await eventually("the receipt of what was cancelled", async () => {
      const kept = await fetch(`${network.url}/v1/requests/${id}/receipt`);
      if (!kept.ok) return null;
      const { choices } = (await kept.json()) as { choices: { parts: DocumentPart[] }[] };
      return choices[0]!.parts[0]!.receipt;
    });
    // It may have ended just then.
    assert.match((signed as { finish: string }).finish, /^(cancelled|stop)$/);
    const { code, output } = await verify(await fetchReceipt(id), "--model", of);
    assert.equal(code, 0, output);
  }
});

interface DocumentPart {
  readonly receipt: object | null;
  readonly checkpoint: { readonly position: number } | null;
}

/** Kills whoever generates a long answer behind its first tokens. Returns the answer's id. */
async function interrupted(pool: Pool, seed: number): Promise<string> {
  const body = {
    model: "tiny-exact",
    prompt: "Once upon a time",
    temperature: 2,
    max_tokens: 400,
    stream: true,
  };
  const response = await fetch(`${network.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, seed }),
  });
  let events = "";
  let killed = false;
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    events += chunk;
    if (killed || events.split("data: ").length < 40) continue;
    const busy = (await providersOf(network.url, body.model)).find(({ active }) => active > 0);
    killed = busy !== undefined;
    if (killed) void pool.replace(busy!.id, "SIGKILL");
  }
  assert.ok(events.endsWith("data: [DONE]\n\n"));
  if (killed) {
    await pool.complete();
    await untilAvailable(network.url, body.model, 2);
  }
  return response.headers.get("x-request-id")!;
}

test("an answer whose provider was killed has linked proofs of both parts", async () => {
  const pool = network.exact;
  let file = "";
  let parts: DocumentPart[] = [];
  // Sometimes the answer is whole before anybody can be killed.
  for (let seed = 1; seed < 10 && (parts.length !== 2 || parts[0]!.checkpoint === null); seed++) {
    file = await fetchReceipt(await interrupted(pool, seed));
    ({ parts } = (
      JSON.parse(readFileSync(file, "utf8")) as { choices: { parts: DocumentPart[] }[] }
    ).choices[0]!);
  }
  assert.equal(parts.length, 2);
  assert.equal(parts[0]!.receipt, null);
  assert.ok(parts[0]!.checkpoint!.position >= 32);
  assert.notEqual(parts[1]!.receipt, null);
  const { code, output } = await verify(file, "--model", tinyModel);
  assert.equal(code, 0, output);
  const lie = altered(
    file,
    ["choices", 0, "parts", 0, "output", "token_ids", 3],
    (value: number) => value + 1,
  );
  assert.equal((await verify(lie)).code, 1);
});
