/** Batches over real processes that are killed without a word. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { localNetwork } from "./local-network.ts";
import { eventually, skeinToEnd } from "./processes.ts";

const linesCount = 80;
const network = localNetwork({ exact: 2 });

interface BatchStatus {
  status: string;
  request_counts: { total: number; completed: number; failed: number };
}

async function statusOf(id: string): Promise<BatchStatus> {
  return (await (await fetch(`${network.url}/v1/batches/${id}`)).json()) as BatchStatus;
}

test("a batch loses no line and doubles none when gateway and provider are killed", async () => {
  const input = join(network.home.path, "in.jsonl");
  const ids = Array.from({ length: linesCount }, (_, i) => `line-${i}`);
  const body = (i: number) => ({
    model: network.exact.model,
    prompt: `Story ${i}:`,
    max_tokens: 16,
    temperature: 1,
  });
  const line = (id: string, i: number): string =>
    JSON.stringify({ custom_id: id, method: "POST", url: "/v1/completions", body: body(i) });
  writeFileSync(input, ids.map(line).join("\n"));
  const submitted = await skeinToEnd(
    network.home.path,
    "batch",
    "submit",
    input,
    "--detach",
    "--gateway",
    network.url,
  );
  assert.equal(submitted.code, 0, submitted.output);
  const id = /batch_[0-9a-f]+/.exec(submitted.output)![0];
  await eventually("some lines", async () =>
    (await statusOf(id)).request_counts.completed > 5 ? true : null,
  );
  // 1. The gateway, and one of the providers.
  network.gateway.child.kill("SIGKILL");
  await network.gateway.exited();
  void network.exact.replace(network.exact.members[0]!.id, "SIGKILL");
  await network.startGateway();
  // 2. It goes on by itself.
  await eventually("the batch's end", async () =>
    (await statusOf(id)).status === "completed" ? true : null,
  );
  const { request_counts: counts } = await statusOf(id);
  assert.deepEqual(counts, { total: linesCount, completed: linesCount, failed: 0 });
  const output = join(network.home.path, "out.jsonl");
  const got = await skeinToEnd(
    network.home.path,
    "batch",
    "download",
    id,
    "--output",
    output,
    "--gateway",
    network.url,
  );
  assert.equal(got.code, 0, got.output);
  const found = readFileSync(output, "utf8").trimEnd().split("\n");
  assert.deepEqual(
    found.map((text) => (JSON.parse(text) as { custom_id: string }).custom_id),
    ids,
  );
  await network.exact.complete();
});

test("the command watches a batch to its end, and says what is wrong with a file", async () => {
  const input = join(network.home.path, "mixed.jsonl");
  const good = { model: network.exact.model, messages: [{ role: "user", content: "Hello" }], max_tokens: 3 };
  const line = (id: string, body: object): string =>
    JSON.stringify({ custom_id: id, method: "POST", url: "/v1/chat/completions", body });
  writeFileSync(input, [line("a", good), line("b", { ...good, temperature: 9 })].join("\n"));
  const errors = join(network.home.path, "errors.jsonl");
  const mixed = await skeinToEnd(
    network.home.path,
    "batch",
    "submit",
    input,
    "--errors",
    errors,
    "--json",
    "--gateway",
    network.url,
  );
  assert.equal(mixed.code, 1, mixed.output);
  assert.match(mixed.output, /"completed": 1/);
  assert.match(readFileSync(errors, "utf8"), /body\.temperature/);
  const missing = await skeinToEnd(
    network.home.path,
    "batch",
    "submit",
    join(network.home.path, "none"),
    "--gateway",
    network.url,
  );
  assert.equal(missing.code, 2);
  assert.match(missing.output, /is not there/);
  const cancelled = await skeinToEnd(
    network.home.path,
    "batch",
    "cancel",
    "batch_none",
    "--gateway",
    network.url,
  );
  assert.equal(cancelled.code, 1);
  assert.match(
    (await skeinToEnd(network.home.path, "batch", "status", "--gateway", network.url)).output,
    /completed/,
  );
});
