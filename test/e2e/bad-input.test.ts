/** Whatever is thrown at the network: a clear error in the right shape, and harm to nobody else. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  eventually,
  killAll,
  type Running,
  skein,
  skeinToEnd,
  stop,
  temporaryHome,
  tinyModel,
} from "./processes.ts";

const home = temporaryHome();
let network: Running;
let gateway = "";

before(async () => {
  network = skein(home.path, "up", "--port", "0", "--providers", "1");
  const [, url] = await network.printed(/(http:\/\/127\.0\.0\.1:\d+)\/v1/);
  await network.printed(/Ctrl-C/);
  gateway = url!;
});

after(async () => {
  try {
    await stop(network);
  } finally {
    await killAll();
  }
  home.remove();
});

interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

async function post(body: BodyInit, headers: Record<string, string> = {}, path = "/v1/chat/completions") {
  const response = await fetch(gateway + path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body,
  });
  return { status: response.status, body: (await response.json()) as ErrorBody };
}

const message = { role: "user", content: "hi" };
const good = { model: "tiny", messages: [message], max_tokens: 4 };

const table: { name: string; body: BodyInit; status: number; code: string; says: RegExp }[] = [
  { name: "malformed JSON", body: '{"model": "tiny",', status: 400, code: "invalid_json", says: /JSON/ },
  { name: "no JSON object", body: "[1]", status: 400, code: "invalid_request", says: /object/ },
  {
    name: "invalid UTF-8",
    body: Uint8Array.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]),
    status: 400,
    code: "invalid_json",
    says: /UTF-8/,
  },
  {
    name: "unknown model",
    body: JSON.stringify({ ...good, model: "gpt-nine" }),
    status: 404,
    code: "model_not_found",
    says: /gpt-nine.*tiny/s,
  },
  {
    name: "empty messages",
    body: JSON.stringify({ ...good, messages: [] }),
    status: 400,
    code: "invalid_request",
    says: /messages/,
  },
  {
    name: "messages of the wrong type",
    body: JSON.stringify({ ...good, messages: "hi" }),
    status: 400,
    code: "invalid_request",
    says: /messages/,
  },
  {
    name: "negative max_tokens",
    body: JSON.stringify({ ...good, max_tokens: -1 }),
    status: 400,
    code: "invalid_request",
    says: /max_tokens/,
  },
  {
    name: "temperature as text",
    body: JSON.stringify({ ...good, temperature: "warm" }),
    status: 400,
    code: "invalid_request",
    says: /temperature/,
  },
  {
    name: "a prompt longer than the context",
    body: JSON.stringify({ ...good, messages: [{ role: "user", content: "moo ".repeat(20_000) }] }),
    status: 400,
    code: "context_length_exceeded",
    says: /\d+.*tokens/,
  },
  {
    name: "speech, which is not supported yet",
    body: JSON.stringify({ ...good, audio: { voice: "x", format: "wav" } }),
    status: 400,
    code: "unsupported_parameter",
    says: /audio/,
  },
];

for (const { name, body, status, code, says } of table) {
  test(name, async () => {
    const answer = await post(body);
    assert.equal(answer.status, status, JSON.stringify(answer.body));
    assert.equal(answer.body.error.code, code);
    assert.equal(typeof answer.body.error.type, "string");
    assert.match(answer.body.error.message, says);
  });
}

test("a huge max_tokens is served up to the context's end", async () => {
  const answer = await post(JSON.stringify({ ...good, max_tokens: 1e9, temperature: 0 }));
  assert.ok(answer.status === 200 || answer.status === 400, String(answer.status));
});

test("a body of 50 MB is refused without reading it all into memory", async () => {
  const answer = await post(JSON.stringify({ ...good, user: "x".repeat(50 * 1024 * 1024) })).catch(
    (error: unknown) => error,
  );
  // The gateway may cut the connection while the client still sends.
  if (!(answer instanceof Error)) assert.equal((answer as { status: number }).status, 413);
});

test("unknown paths and methods", async () => {
  assert.equal((await post("{}", {}, "/v1/nonsense")).status, 404);
  const wrongMethod = await fetch(`${gateway}/v1/chat/completions`, { method: "PUT" });
  assert.equal(wrongMethod.status, 405);
  assert.equal(((await wrongMethod.json()) as ErrorBody).error.type, "invalid_request_error");
});

test("foreign web pages get nothing", async () => {
  const answer = await post(JSON.stringify(good), { origin: "https://evil.example" });
  assert.equal(answer.status, 403);
  assert.equal(answer.body.error.code, "foreign_origin");
});

test("bad model files are refused with what, why and what to do", async () => {
  const folder = join(home.path, "files");
  mkdirSync(folder);
  const notGguf = join(folder, "not-a-model.gguf");
  writeFileSync(notGguf, "just some text, but long enough for a header");
  const truncated = join(folder, "truncated.gguf");
  writeFileSync(truncated, readFileSync(tinyModel).subarray(0, 1_000_000));
  for (const path of [notGguf, truncated, folder, join(folder, "missing.gguf")]) {
    const { code, output } = await skeinToEnd(home.path, "provide", "--model", path, "--join", gateway);
    assert.equal(code, 1, output);
    assert.match(output, /error:/);
    assert.doesNotMatch(output, /at .*\.ts:\d+/, "no stack trace");
  }
});

test("a home or port in use and a gateway that is not there are named", async (context) => {
  const taken = createServer();
  const other = temporaryHome();
  context.after(() => {
    taken.close();
    other.remove();
  });
  const port = await new Promise<number>((resolve) => {
    taken.listen(0, "127.0.0.1", () => resolve((taken.address() as { port: number }).port));
  });
  const second = await skeinToEnd(home.path, "gateway", "--port", "0", "--network-port", "0");
  assert.equal(second.code, 1, second.output);
  assert.match(second.output, /Another process of Skein uses .*SKEIN_HOME/s);
  const up = await skeinToEnd(other.path, "gateway", "--port", String(port), "--network-port", "0");
  assert.equal(up.code, 1, up.output);
  assert.match(up.output, new RegExp(`${port}`));
  assert.match(up.output, /--port/);
  const networkPort = await skeinToEnd(other.path, "gateway", "--port", "0", "--network-port", String(port));
  assert.equal(networkPort.code, 1, networkPort.output);
  assert.match(networkPort.output, new RegExp(`${port}.*--network-port`, "s"));
  await new Promise((resolve) => taken.close(resolve));

  const models = await skeinToEnd(home.path, "models", "--gateway", `http://127.0.0.1:${port}`);
  assert.equal(models.code, 1);
  assert.match(models.output, /No gateway answers/);
  const args = ["--model", tinyModel, "--join", `http://127.0.0.1:${port}`, "--once"];
  const provide = await skeinToEnd(home.path, "provide", ...args);
  assert.equal(provide.code, 1);
  assert.match(provide.output, /No gateway answers/);
});

test("a client that goes away frees its slot", async () => {
  const leaving = new AbortController();
  const body = JSON.stringify({ ...good, max_tokens: 400, stream: true });
  const response = await fetch(`${gateway}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
    signal: leaving.signal,
  });
  await response.body!.getReader().read();
  leaving.abort();
  await eventually("slot is free", async () => {
    const answer = await fetch(`${gateway}/skein/v1/providers`);
    const { data } = (await answer.json()) as { data: { active: number }[] };
    return data.every(({ active }) => active === 0) ? true : null;
  });
});

test("after all that the network still answers", async () => {
  assert.equal((await post(JSON.stringify(good))).status, 200);
});
