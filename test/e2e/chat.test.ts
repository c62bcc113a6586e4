/** `skein chat` as a process: what comes in by a pipe, what goes out, and how it ends. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text as readAll } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { eventually, killAll, skein, skeinToEnd, temporaryHome } from "./processes.ts";

const run = promisify(execFile);
const entry = fileURLToPath(new URL("../../bin/skein.mjs", import.meta.url));
const home = temporaryHome();
let server: Server;
let gateway = "";
let lastQuestion = "";
/** Answers that have no end yet. */
const open = new Set<ServerResponse>();

before(async () => {
  server = createServer((request, response) => {
    if (request.method === "GET")
      return response.end('{"data": [{"id": "tiny", "created": 1, "skein": {"providers": 1}}]}');
    return void readAll(request).then((body) => answer(body, response));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  gateway = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(async () => {
  await killAll();
  server.closeAllConnections();
  server.close();
  home.remove();
});

function answer(body: string, response: ServerResponse): void {
  const { messages } = JSON.parse(body) as { messages: { content: string }[] };
  lastQuestion = messages.at(-1)!.content;
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = (content: string): boolean =>
    response.write(`data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
  if (lastQuestion === "endless") {
    open.add(response);
    const timer = setInterval(() => send("moo "), 5);
    response.once("close", () => {
      clearInterval(timer);
      open.delete(response);
    });
    return;
  }
  send("A cow ");
  send("says moo.");
  response.write('data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n');
  response.end("data: [DONE]\n\n");
}

test("a question from the command line or from a pipe is answered on stdout", async () => {
  const asked = await skeinToEnd(home.path, "chat", "What", "sound?", "--gateway", gateway);
  assert.match(asked.output, /A cow says moo\.\n/);
  assert.deepEqual([asked.code, lastQuestion], [0, "What sound?"]);

  const piped = skein(home.path, "chat", "--json", "--gateway", gateway);
  piped.child.stdin!.end("What\nsound?\n");
  assert.equal((await piped.exited()).code, 0);
  assert.equal(lastQuestion, "What\nsound?");
  const { text, model, finishReason } = JSON.parse(piped.output()) as Record<string, unknown>;
  assert.deepEqual([text, model, finishReason], ["A cow says moo.", "tiny", "stop"]);

  const nothing = await skeinToEnd(home.path, "chat", "--gateway", gateway);
  assert.match(nothing.output, /There is no question/);
  assert.equal(nothing.code, 2);
});

test(
  "Ctrl-C ends an answer, at the gateway too, with code 130",
  { skip: process.platform === "win32" },
  async () => {
    const endless = skein(home.path, "chat", "endless", "--gateway", gateway);
    await endless.printed(/moo moo/);
    endless.child.kill("SIGINT");
    assert.equal((await endless.exited()).code, 130);
    assert.match(endless.output(), /Stopped\./);
    await eventually("the gateway is left", async () => (open.size === 0 ? true : null));
  },
);

test("a reader that has enough ends it quietly", { skip: process.platform === "win32" }, async () => {
  const env = {
    ...process.env,
    SKEIN_HOME: home.path,
    NODE: process.execPath,
    ENTRY: entry,
    GATEWAY: gateway,
  };
  const script = '("$NODE" "$ENTRY" chat endless --gateway "$GATEWAY"; echo "code $?" >&2) | head -c 5';
  const { stdout, stderr } = await run("bash", ["-c", script], { env, timeout: 60_000 });
  assert.equal(stdout, "moo m");
  assert.equal(stderr.trim(), "code 0");
  await eventually("the gateway is left", async () => (open.size === 0 ? true : null));
});
