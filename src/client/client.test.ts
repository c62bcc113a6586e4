import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import { type Client, type ChatEnd, createClient } from "./client.ts";

let server: Server;
let base = "";
let answer: (request: IncomingMessage, response: ServerResponse) => void;

before(async () => {
  server = createServer((request, response) => answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

const never = new AbortController().signal;
const question = { model: "m", messages: [{ role: "user" as const, content: "hi" }] };

function open(baseUrl = base): Client {
  return createClient({ baseUrl, apiKey: "secret", fetch });
}

/** Lets the server answer with JSON, whatever is asked. */
function answerWith(body: unknown, status = 200): void {
  answer = (_, response) => response.writeHead(status).end(JSON.stringify(body));
}

/** Lets the server answer with an event stream of these data fields. */
function streamOf(...data: string[]): void {
  answer = (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
    response.end(data.map((item) => `data: ${item}\n\n`).join(""));
  };
}

async function chat(signal = never): Promise<{ text: string; end: ChatEnd }> {
  const parts = open().chat(question, signal);
  let text = "";
  for (;;) {
    const { value, done } = await parts.next();
    if (done === true) return { text, end: value };
    text += value;
  }
}

const refused = (code: string, pattern: RegExp) => (error: unknown) =>
  error instanceof SkeinError && error.code === code && pattern.test(error.text);

test("an address may be short, or the base URL of an OpenAI client", () => {
  for (const [given, baseUrl] of [
    ["http://127.0.0.1:4141", "http://127.0.0.1:4141"],
    ["http://127.0.0.1:4141/v1/", "http://127.0.0.1:4141"],
    ["127.0.0.1:5000", "http://127.0.0.1:5000"],
    ["gateway.example.org", "http://gateway.example.org:4141"],
    ["https://example.org/skein/v1", "https://example.org/skein"],
  ]) {
    assert.equal(open(given).baseUrl, baseUrl);
  }
  for (const given of ["", "http://", "ftp://example.org", "not a host"]) {
    assert.throws(() => open(given), refused("invalid_config", /4141/));
  }
});

test("the key is sent, and a wrong one is explained", async () => {
  let sent: string | undefined;
  answer = (request, response) => {
    sent = request.headers.authorization;
    response.writeHead(401).end('{"error": {"message": "Wrong API key.", "code": "invalid_api_key"}}');
  };
  await assert.rejects(open().models(), refused("invalid_api_key", /Wrong API key.*SKEIN_API_KEY/s));
  assert.equal(sent, "Bearer secret");
});

test("another program at the address is no gateway", async () => {
  for (const body of ["text", null, {}, { data: [{ id: "gpt" }] }, { data: 3 }]) {
    answerWith(body);
    await assert.rejects(open().models(), refused("connection_failed", /not a Skein gateway/));
    await assert.rejects(open().gateway(), refused("connection_failed", /not a Skein gateway/));
    await assert.rejects(open().quote(question), refused("connection_failed", /not a Skein gateway/));
    await assert.rejects(chat(), refused("connection_failed", /not a Skein gateway/));
  }
  answer = (_, response) => response.end("<html>");
  await assert.rejects(open().providers(), refused("connection_failed", /not a Skein gateway/));
  const closed = open("http://127.0.0.1:9");
  await assert.rejects(closed.models(), refused("connection_failed", /No gateway answers/));
});

test("a call can be stopped", async () => {
  const stop = new AbortController();
  answer = () => stop.abort();
  await assert.rejects(open().models(stop.signal), refused("cancelled", /Stopped/));
});

test("an answer is text, then how it ended", async () => {
  streamOf(
    '{"choices": [{"delta": {"role": "assistant", "content": ""}}]}',
    '{"choices": [{"delta": {"content": "Mo"}}]}',
    '{"choices": [{"delta": {"content": "o"}, "finish_reason": "stop"}]}',
    '{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}, "skein": {"attempts": 1}}',
    "[DONE]",
  );
  const { text, end } = await chat();
  assert.equal(text, "Moo");
  assert.equal(end.finishReason, "stop");
  assert.equal(end.usage?.completion_tokens, 2);
  assert.equal(end.served?.attempts, 1);
});

test("an answer that breaks off, fails or is garbage says so", async () => {
  const begun = '{"choices": [{"delta": {"content": "Mo"}}]}';
  streamOf(begun);
  await assert.rejects(chat(), refused("provider_failed", /broke off/));
  streamOf(begun, '{"error": {"message": "No other provider.", "code": "no_provider"}}');
  await assert.rejects(chat(), refused("no_provider", /No other provider/));
  for (const garbage of ["{", "null", '{"choices": 3}', "x".repeat(1_100_000)]) {
    streamOf(begun, garbage);
    await assert.rejects(chat(), refused("provider_failed", /broke off/));
  }
});

test("stopping an answer throws the reason and closes the connection", async () => {
  const closed = Promise.withResolvers<void>();
  const stop = new AbortController();
  answer = (_, response) => {
    response.on("close", closed.resolve);
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write('data: {"choices": [{"delta": {"content": "Mo"}}]}\n\n');
  };
  await assert.rejects(
    async () => {
      for await (const text of open().chat(question, stop.signal)) {
        assert.equal(text, "Mo");
        stop.abort(new SkeinError("cancelled", "Enough."));
      }
    },
    refused("cancelled", /Enough/),
  );
  await closed.promise;
});

test("leaving an answer closes the connection", async () => {
  const closed = Promise.withResolvers<void>();
  answer = (_, response) => {
    response.on("close", closed.resolve);
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write('data: {"choices": [{"delta": {"content": "Mo"}}]}\n\n');
  };
  for await (const text of open().chat(question, never)) {
    assert.equal(text, "Mo");
    break;
  }
  await closed.promise;
});
