/** Answers of several providers as a user meets them: with real processes. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { ServedView } from "../../src/protocol/gateway-api.ts";
import { localNetwork } from "./local-network.ts";
import { skeinToEnd } from "./processes.ts";

const network = localNetwork({ exact: 2 });

const run = (...args: string[]): Promise<{ code: number | null; output: string }> =>
  skeinToEnd(network.home.path, ...args);

function ask(trust: string, stream = false): Promise<Response> {
  return fetch(`${network.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-skein-trust": trust },
    body: JSON.stringify({
      model: "tiny-exact",
      messages: [{ role: "user", content: "What sound does a cow make?" }],
      temperature: 1,
      seed: 5,
      max_tokens: 70,
      stream,
    }),
  });
}

interface Answer {
  readonly id: string;
  readonly choices: { message: { content: string } }[];
  readonly skein: ServedView;
}

test("two providers give one answer, signed twice, and whoever asks can check both", async () => {
  const answer = (await (await ask("replicated:2")).json()) as Answer;
  const { given, replicas } = answer.skein.trust;
  assert.equal(given, "replicated:2");
  assert.equal(new Set(replicas!.map(({ provider }) => provider)).size, 2);
  const file = join(network.home.path, "receipt.json");
  const fetched = await run("receipt", answer.id, file, "--gateway", network.url);
  assert.match(fetched.output, /1 answer, 2 replicas, 2 attempts/);
  const good = await run("verify", file, "--model", "tiny-exact");
  assert.equal(good.code, 0, good.output);
  assert.match(
    good.output,
    /2 receipts are signed by 2 providers.*All 2 replicas are the same, bit for bit/s,
  );
  const why = await run("why", answer.id, "--gateway", network.url);
  assert.match(why.output, /asked for replicated:2, given replicated:2/);
  assert.equal(why.output.match(/the same answer \(receipt [0-9a-f]{12}\)/g)?.length, 2);
  // One of another answer, signed as well, is no replica of this one.
  const other = (await (await ask("exact")).json()) as Answer;
  assert.equal(other.choices[0]!.message.content, answer.choices[0]!.message.content);
  const document = JSON.parse(readFileSync(file, "utf8")) as { choices: { parts: unknown[] }[] };
  document.choices[1]!.parts = [];
  const torn = join(network.home.path, "torn.json");
  writeFileSync(torn, JSON.stringify(document));
  const unknown = await run("verify", torn);
  assert.equal(unknown.code, 2, unknown.output);
  assert.match(unknown.output, /Replica 2 is not the same answer as replica 1/);
  // A stream is the same text.
  const events = (await (await ask("replicated:2", true)).text()).split("\n\n");
  const text = events
    .filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice(6)) as { choices: { delta?: { content?: string } }[] })
    .map(({ choices }) => choices[0]?.delta?.content ?? "")
    .join("");
  assert.equal(text, answer.choices[0]!.message.content);
});

test("what three would cost is refused where two serve, in words", async () => {
  const refused = await ask("replicated:3");
  assert.equal(refused.status, 503);
  assert.match(
    await refused.text(),
    /asks for 3 independent providers of 'tiny-exact', but 2 providers give/,
  );
  const wrong = await ask("replicated:7");
  assert.equal(wrong.status, 400);
  const quoted = await run(
    "quote",
    "hello",
    "--model",
    "tiny-exact",
    "--trust",
    "replicated:2",
    "--gateway",
    network.url,
  );
  assert.equal(quoted.code, 0, quoted.output);
  assert.match(quoted.output, /replicated:2: all answers together cost from \$/);
});
