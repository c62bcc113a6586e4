import assert from "node:assert/strict";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { PassThrough } from "node:stream";
import { text as readAll } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { createClient } from "../client/client.ts";
import { SkeinError } from "../util/errors.ts";
import { ask, type Conversation, modelOrFirst, obey } from "./conversation.ts";
import { converse } from "./converse.ts";

interface Asked {
  readonly model: string;
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly temperature?: number;
}

let server: Server;
let baseUrl = "";
const asked: Asked[] = [];
let answer: (response: ServerResponse, request: Asked) => void;

before(async () => {
  server = createServer((request, response) => {
    if (request.method === "GET") {
      const skein = { providers: 1 };
      return response.end(JSON.stringify({ object: "list", data: [{ id: "tiny", created: 1, skein }] }));
    }
    return void readAll(request).then((body) => {
      const parsed = JSON.parse(body) as Asked;
      asked.push(parsed);
      response.writeHead(200, { "content-type": "text/event-stream" });
      answer(response, parsed);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

const usage = {
  prompt_tokens: 3,
  completion_tokens: 2,
  fee: { amount: "7", unit: "nanoUSD", usd: "0.000000007" },
};

function send(response: ServerResponse, content: string): void {
  response.write(`data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
}

function finish(response: ServerResponse): void {
  response.write(`data: ${JSON.stringify({ choices: [{ delta: {}, finish_reason: "stop" }] })}\n\n`);
  response.write(`data: ${JSON.stringify({ choices: [], usage })}\n\n`);
  response.end("data: [DONE]\n\n");
}

function answerMoo(response: ServerResponse): void {
  send(response, "A cow ");
  send(response, "says moo.");
  finish(response);
}

function newConversation(): Conversation {
  asked.length = 0;
  answer = answerMoo;
  const client = createClient({ baseUrl, apiKey: null, fetch });
  return { client, model: "tiny", system: null, messages: [], options: { temperature: 0 } };
}

const never = new AbortController().signal;

test("both sides are remembered, and sent with the next question", async () => {
  const conversation = newConversation();
  const parts: string[] = [];
  const first = await ask(conversation, "What does a cow say?", never, (part) => parts.push(part));
  assert.deepEqual(parts, ["A cow ", "says moo."]);
  assert.equal(first.text, "A cow says moo.");
  assert.match(first.note, /2 tokens.*first after \d+ ms.*\$0\.000000007/);
  obey(conversation, "/system Be brief.");
  obey(conversation, "/model other");
  await ask(conversation, "And a pig?", never, () => undefined);
  assert.deepEqual(asked[1], {
    model: "other",
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "What does a cow say?" },
      { role: "assistant", content: "A cow says moo." },
      { role: "user", content: "And a pig?" },
    ],
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  } as Asked);
  obey(conversation, "/reset");
  obey(conversation, "/system");
  assert.deepEqual([conversation.messages, conversation.system], [[], null]);
  assert.equal(obey(conversation, "/wrong"), false);
});

test("a question that fails or is stopped is forgotten", async () => {
  const conversation = newConversation();
  answer = (response) => {
    send(response, "A cow");
    response.end('data: {"error": {"message": "It fell over.", "code": "provider_failed"}}\n\n');
  };
  await assert.rejects(
    ask(conversation, "one", never, () => undefined),
    (error) => error instanceof SkeinError && error.code === "provider_failed",
  );
  const stopping = new AbortController();
  answer = (response) => send(response, "A cow");
  await assert.rejects(
    ask(conversation, "two", stopping.signal, () => stopping.abort(new SkeinError("cancelled", "Stopped."))),
    (error) => error instanceof SkeinError && error.code === "cancelled",
  );
  assert.deepEqual(conversation.messages, []);
});

test("without a wish the first model that is served is asked", async () => {
  const { client } = newConversation();
  assert.equal(await modelOrFirst(client, "mine"), "mine");
  assert.equal(await modelOrFirst(client, undefined), "tiny");
});

/** A terminal that a test types into. */
function terminal() {
  const stream = (): PassThrough & NodeJS.WriteStream =>
    Object.assign(new PassThrough(), { isTTY: true, columns: 80 }) as PassThrough & NodeJS.WriteStream;
  const [input, output, notes] = [stream(), stream(), stream()];
  let shown = "";
  for (const each of [output, notes]) each.on("data", (data: Buffer) => (shown += data.toString()));
  return {
    input,
    output,
    notes,
    type: (text: string): void => void input.write(text),
    async shows(pattern: RegExp): Promise<void> {
      const endMs = performance.now() + 10_000;
      while (!pattern.test(shown)) {
        if (performance.now() > endMs) assert.fail(`${pattern} is not shown: ${JSON.stringify(shown)}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      shown = "";
    },
  };
}

const ctrlC = "\u0003";
const ctrlD = "\u0004";

test("questions and commands in a terminal", { timeout: 30_000 }, async () => {
  const screen = terminal();
  const talking = converse(newConversation(), screen);
  await screen.shows(/tiny at http.*› /s);
  screen.type("What does a cow say?\r");
  await screen.shows(/A cow says moo\..*\$0\.000000007.*› /s);
  screen.type("/wrong\r");
  await screen.shows(/There are \/model/);
  answer = (response) => response.end('data: {"error": {"message": "It fell over."}}\n\n');
  screen.type("Again?\r");
  await screen.shows(/It fell over\..*› /s);
  screen.type("/exit\r");
  await talking;
});

test(
  "Ctrl-C stops an answer, forgets what is typed, and leaves at the second time",
  { timeout: 30_000 },
  async () => {
    const screen = terminal();
    const talking = converse(newConversation(), screen);
    await screen.shows(/› /);
    answer = (response) => send(response, "Once upon");
    screen.type("A story\r");
    await screen.shows(/Once upon/);
    screen.type(ctrlC);
    await screen.shows(/Stopped\..*› /s);
    screen.type(ctrlC);
    await screen.shows(/again, or \/exit/);
    screen.type(`half a question${ctrlC}`);
    screen.type("/reset\r");
    await screen.shows(/reset.*› /s);
    screen.type(ctrlC);
    await screen.shows(/again, or \/exit/);
    screen.type(ctrlC);
    await talking;
    assert.deepEqual(
      asked.map(({ messages }) => messages.at(-1)!.content),
      ["A story"],
    );
  },
);

test("Ctrl-D leaves: at once, or after the answer", { timeout: 30_000 }, async () => {
  const screen = terminal();
  const talking = converse(newConversation(), screen);
  await screen.shows(/› /);
  const answers: ServerResponse[] = [];
  answer = (response) => {
    send(response, "Once upon");
    answers.push(response);
  };
  screen.type("A story\r");
  await screen.shows(/Once upon/);
  screen.type(ctrlD);
  send(answers[0]!, " a time.");
  finish(answers[0]!);
  await screen.shows(/a time\./);
  await talking;
  const other = terminal();
  const leaving = converse(newConversation(), other);
  await other.shows(/› /);
  other.type(ctrlD);
  await leaving;
});
