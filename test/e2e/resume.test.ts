/** A client that loses its connection in the middle of an answer and comes back, over real HTTP. */
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { localNetwork } from "./local-network.ts";
import { providersOf } from "./pool.ts";
import { eventually } from "./processes.ts";

const network = localNetwork({ exact: 1 });

const request = { model: "tiny-exact", prompt: "Once upon a time", temperature: 2, seed: 1, max_tokens: 400 };

async function open(signal: AbortSignal, headers: Record<string, string>): Promise<Response> {
  return fetch(`${network.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ ...request, stream: true }),
    signal,
  });
}

function textOf(events: string): string {
  return [...events.matchAll(/^data: (\{.*)$/gm)]
    .map(([, data]) => JSON.parse(data!).choices[0]?.text ?? "")
    .join("");
}

async function untilIdle(): Promise<void> {
  await eventually("the provider is free", async () =>
    (await providersOf(network.url, request.model)).every(({ active }) => active === 0) ? true : null,
  );
}

test("the rest comes after a reconnect; the official client reads such streams as any other", async () => {
  const headers = { "x-skein-resume": "true" };
  const client = new OpenAI({
    baseURL: `${network.url}/v1`,
    apiKey: "none",
    maxRetries: 0,
    defaultHeaders: headers,
  });
  let expected = "";
  for await (const chunk of await client.completions.create({ ...request, stream: true })) {
    expected += chunk.choices[0]?.text ?? "";
  }
  assert.ok(expected.length > 0);
  const line = new AbortController();
  const response = await open(line.signal, headers);
  const id = response.headers.get("x-request-id")!;
  let seen = "";
  try {
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
      seen += part;
      if (seen.length > 1_000) line.abort();
    }
  } catch {
    assert.ok(line.signal.aborted);
  }
  // What was not whole did not come.
  seen = seen.slice(0, seen.lastIndexOf("\n\n") + 2);
  const last = [...seen.matchAll(/^id: (.*)$/gm)].at(-1)![1]!;
  const rest = await fetch(`${network.url}/v1/requests/${id}/events`, { headers: { "last-event-id": last } });
  assert.equal(rest.status, 200);
  const others = await rest.text();
  assert.equal(textOf(seen + others), expected);
  assert.ok((seen + others).endsWith("data: [DONE]\n\n"));
  const metrics = await (await fetch(`${network.url}/metrics`)).text();
  assert.match(metrics, /gen_ai_client_operation_duration_seconds_count\S* 2\n/);
});

test("a plain client that hangs up frees the provider", async () => {
  const line = new AbortController();
  const response = await open(line.signal, {});
  await response.body!.getReader().read();
  line.abort();
  await untilIdle();
});
