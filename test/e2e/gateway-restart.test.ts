/** The gateway is killed in the middle of an answer and started again; the client comes back for the rest. */
import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { journalIntervalMs } from "../../src/gateway/resume/journal.ts";
import { localNetwork } from "./local-network.ts";
import { parseDocument } from "../../src/receipt/document.ts";
import { wholeAnswer } from "../../src/receipt/whole-answer.ts";
import { eventually, skeinToEnd, tinyModel } from "./processes.ts";

const network = localNetwork({ exact: 1 });
const { home } = network;

/** Of each choice. */
function textsOf(events: string): string[] {
  const texts: string[] = [];
  for (const [, data] of events.matchAll(/^data: (\{.*)$/gm)) {
    for (const { index, text } of JSON.parse(data!).choices ?? []) texts[index] = (texts[index] ?? "") + text;
  }
  return texts;
}

async function open(n: number): Promise<Response> {
  const request = { model: network.exact.model, prompt: "Once upon a time", temperature: 2, seed: 21, n };
  return fetch(`${network.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-skein-resume": "true" },
    body: JSON.stringify({
      ...request,
      max_tokens: 400,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
}

/** Whole events of a stream, until it has so many characters, or breaks. */
async function readSome(response: Response, chars: number): Promise<string> {
  let seen = "";
  try {
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
      seen += part;
      if (seen.length > chars) break;
    }
  } catch {
    // The process was killed.
  }
  return seen.slice(0, seen.lastIndexOf("\n\n") + 2);
}

const lastId = (seen: string): string => [...seen.matchAll(/^id: (.*)$/gm)].at(-1)![1]!;
/** Tokens in and out, as they are charged. */
const usageOf = (seen: string): [number, number] => {
  const chunk = [...seen.matchAll(/^data: (\{.*)$/gm)].findLast(([, data]) => data!.includes('"fee"'))!;
  const { prompt_tokens, completion_tokens } = JSON.parse(chunk[1]!).usage;
  return [prompt_tokens, completion_tokens];
};

async function killedTwice(n: number): Promise<void> {
  const expected = await (await open(n)).text();
  assert.ok(expected.endsWith("data: [DONE]\n\n"), expected.slice(-300));
  let response = await open(n);
  const id = response.headers.get("x-request-id")!;
  let seen = "";
  for (const chars of [8_000, 6_000]) {
    seen += await readSome(response, chars);
    // No more comes, and what came is written down.
    const [provider] = network.exact.members;
    provider!.child.kill("SIGSTOP");
    await sleep(2 * journalIntervalMs);
    provider!.child.kill("SIGCONT");
    network.gateway.child.kill("SIGKILL");
    await network.gateway.exited();
    assert.ok(!seen.includes("[DONE]"), "in the middle");
    await network.startGateway();
    response = await eventually("somebody goes on with it", async () => {
      const got = await fetch(`${network.url}/v1/requests/${id}/events`, {
        headers: { "last-event-id": lastId(seen) },
      });
      // While its provider has not come back yet.
      return got.status === 503 ? null : got;
    });
    assert.equal(response.status, 200, response.ok ? "" : await response.text());
  }
  seen += await response.text();
  assert.deepEqual(textsOf(seen), textsOf(expected));
  assert.ok(seen.endsWith("data: [DONE]\n\n"));
  assert.deepEqual(usageOf(seen), usageOf(expected));
  // What was signed before each death is there, too: the answer can be proved from its first token.
  const file = join(home.path, `${id}.json`);
  const fetched = await skeinToEnd(home.path, "receipt", id, file, "--gateway", network.url);
  assert.equal(fetched.code, 0, fetched.output);
  const { choices } = parseDocument(JSON.parse(readFileSync(file, "utf8")));
  assert.deepEqual(
    choices.map(({ parts }) => wholeAnswer(parts).text),
    textsOf(expected),
  );
  assert.ok(choices.some(({ parts }) => parts.length > 1));
  const proved = await skeinToEnd(home.path, "verify", file, "--model", tinyModel);
  assert.equal(proved.code, 0, proved.output);
  const metrics = await (await fetch(`${network.url}/metrics`)).text();
  assert.match(metrics, /gen_ai_client_operation_duration_seconds_count\S* 1\n/);
}

test("killed twice in the middle of an answer: the same bytes, one charge", async () => {
  await killedTwice(3);
  if (process.platform !== "win32") {
    assert.equal(statSync(join(home.path, "gateway.db")).mode & 0o777, 0o600);
  }
});
