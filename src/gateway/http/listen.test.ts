/** Over real sockets: what only they can show. */
import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { test } from "node:test";
import { ManualClock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import { seededRandom } from "../../util/random.ts";
import { type FakeSession, question, testGateway } from "../fixture.suite.ts";
import { listen } from "./listen.ts";
import { clientStallMs } from "../options.ts";
import { sseData, sseResponse } from "./sse.ts";

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const body = JSON.stringify(question);
const post = (url: string, init: RequestInit = {}): Promise<Response> =>
  fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
    ...init,
  });

async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (holds()) return;
    await pause(10);
  }
  assert.fail(what);
}

test("answers over HTTP; a port in use is named, with what to do", async () => {
  const setup = testGateway();
  await setup.add("p1");
  const server = await listen(setup.gateway.fetch, { host: "127.0.0.1", port: 0 });
  try {
    assert.equal((await post(`http://127.0.0.1:${server.port}`)).status, 200);
    await assert.rejects(
      listen(setup.gateway.fetch, { host: "127.0.0.1", port: server.port }),
      (error) =>
        error instanceof SkeinError &&
        error.code === "port_in_use" &&
        error.text.includes(String(server.port)),
    );
    // TEST-NET-3 (RFC 5737): no machine has it.
    await assert.rejects(
      listen(setup.gateway.fetch, { host: "203.0.113.9", port: 0 }),
      (error) =>
        error instanceof SkeinError &&
        error.code === "invalid_config" &&
        /203\.0\.113\.9.*does not have that address/.test(error.text),
    );
  } finally {
    await server.close();
  }
});

test("a client that hangs up frees its slot, streaming or not", async () => {
  const setup = testGateway();
  const { engine } = await setup.add("p1", { msPerToken: 10, answerTokens: 400 });
  const server = await listen(setup.gateway.fetch, { host: "127.0.0.1", port: 0 });
  try {
    for (const stream of [false, true]) {
      const leaving = new AbortController();
      const asked = post(`http://127.0.0.1:${server.port}`, {
        body: JSON.stringify({ ...question, stream }),
        signal: leaving.signal,
      });
      asked.catch(() => undefined);
      await eventually("it runs", () => engine.load().active === 1);
      if (stream) await (await asked).body!.getReader().read();
      leaving.abort();
      await eventually(`stream: ${stream}: the slot is free`, () => engine.load().active === 0);
    }
  } finally {
    await server.close();
  }
});

test("a storm of leaving clients and failing providers leaves nothing behind", async () => {
  const random = seededRandom(4);
  const setup = testGateway();
  const sessions: FakeSession[] = [];
  for (const id of ["p1", "p2", "p3"]) {
    const onToken = ({ requestId }: { requestId: string }): void => {
      if (requestId !== "probe" && random.next() < 0.005) throw new SkeinError("engine_failed", "boom");
    };
    const slots = { parallelMax: 6, queueLengthMax: 2 };
    sessions.push(await setup.add(id, { ...slots, msPerToken: 1, answerTokens: 20, onToken }));
  }
  const server = await listen(setup.gateway.fetch, { host: "127.0.0.1", port: 0 });
  const client = async (): Promise<void> => {
    for (let i = 0; i < 4; i++) {
      const leaving = new AbortController();
      const timer = setTimeout(() => leaving.abort(), random.next() * 120);
      const given = { ...question, stream: random.next() < 0.7, n: 1 + Math.floor(random.next() * 3) };
      await post(`http://127.0.0.1:${server.port}`, { body: JSON.stringify(given), signal: leaving.signal })
        .then((response) => response.text())
        .catch(() => undefined);
      clearTimeout(timer);
    }
  };
  try {
    await Promise.all(Array.from({ length: 30 }, client));
    await eventually("all slots are free", () => sessions.every(({ engine }) => engine.load().active === 0));
    const metrics = await (await setup.get("/metrics")).text();
    assert.match(metrics, /^skein_attempts_in_flight 0$/m);
    assert.match(metrics, /^skein_requests_waiting 0$/m);
  } finally {
    await server.close();
  }
});

test("a huge body without a length is refused while it comes, in bounded memory", async () => {
  const setup = testGateway();
  await setup.add("p1");
  const server = await listen(setup.gateway.fetch, { host: "127.0.0.1", port: 0 });
  try {
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const request = httpRequest(
        { port: server.port, method: "POST", path: "/v1/chat/completions" },
        (response) => resolve(response.resume().statusCode),
      );
      request.on("error", (error: NodeJS.ErrnoException) =>
        // The gateway may hang up while the client still sends.
        ["ECONNRESET", "EPIPE"].includes(error.code ?? "") ? resolve(413) : reject(error),
      );
      request.write('{"model":"');
      for (let i = 0; i < 50; i++) request.write("x".repeat(1024 * 1024));
      request.end('"}');
    });
    assert.equal(status, 413);
    assert.equal((await post(`http://127.0.0.1:${server.port}`)).status, 200);
  } finally {
    await server.close();
  }
});

test("closing lets a short answer end and does not wait for a long one", async () => {
  const setup = testGateway();
  await setup.add("p1", { msPerToken: 5, answerTokens: 20 });
  const server = await listen(setup.gateway.fetch, { host: "127.0.0.1", port: 0 });
  const short = post(`http://127.0.0.1:${server.port}`);
  await pause(30);
  const closing = server.close();
  assert.equal((await short).status, 200);
  await closing;
  await assert.rejects(post(`http://127.0.0.1:${server.port}`));
});

test("a stream begins at once and in chunks; over HTTP/1.0 it ends with the connection", async () => {
  const setup = testGateway();
  await setup.add("p1", { answerTokens: 3 });
  const server = await listen(setup.gateway.fetch, { host: "127.0.0.1", port: 0 });
  const asked = JSON.stringify({ ...question, stream: true });
  const overSocket = (version: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect(server.port, "127.0.0.1");
      let text = "";
      socket.setEncoding("utf8");
      socket.on("data", (piece: string) => (text += piece));
      socket.on("close", () => resolve(text));
      socket.on("error", reject);
      const head = ["host: localhost", "connection: close", "content-type: application/json"];
      const length = `content-length: ${Buffer.byteLength(asked)}`;
      socket.write(
        `POST /v1/chat/completions HTTP/${version}\r\n${[...head, length].join("\r\n")}\r\n\r\n${asked}`,
      );
    });
  try {
    const [chunked, plain] = [await overSocket("1.1"), await overSocket("1.0")];
    assert.match(chunked, /^HTTP\/1\.1 200 .*\r\ntransfer-encoding: chunked\r\n/is);
    assert.ok(chunked.endsWith("data: [DONE]\n\n\r\n0\r\n\r\n"));
    assert.doesNotMatch(plain, /transfer-encoding/i);
    assert.ok(plain.endsWith("data: [DONE]\n\n"));
  } finally {
    await server.close();
  }
});

test("answers to requests on one connection come one behind the other, each in whole chunks", async () => {
  const setup = testGateway();
  // The first one is the slowest: the others are there before their turn.
  await setup.add("p1", { answerTokens: 60, msPerToken: 2 });
  const server = await listen(setup.gateway.fetch, { host: "127.0.0.1", port: 0 });
  try {
    const socket = connect(server.port, "127.0.0.1");
    let text = "";
    socket.on("data", (piece: Buffer) => (text += piece.toString("latin1")));
    const limits = [50, 5, 20];
    for (const [i, limit] of limits.entries()) {
      const asked = JSON.stringify({ ...question, stream: true, max_tokens: limit, seed: 1 });
      const last = i === limits.length - 1 ? "connection: close\r\n" : "";
      socket.write(
        `POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\n${last}content-type: application/json\r\ncontent-length: ${Buffer.byteLength(asked)}\r\n\r\n${asked}`,
      );
    }
    await new Promise((resolve) => socket.once("close", resolve));
    const answers = text.split("HTTP/1.1 200 OK\r\n").slice(1);
    const whole = await Promise.all(limits.map(async (limit) => (await ask(limit)).text()));
    assert.deepEqual(
      answers.map(eventsIn),
      whole.map((events) => events.match(/^data: /gm)!.length),
    );
  } finally {
    await server.close();
  }

  function ask(limit: number): Promise<Response> {
    return post(`http://127.0.0.1:${server.port}`, {
      body: JSON.stringify({ ...question, stream: true, max_tokens: limit, seed: 1 }),
    });
  }
});

/** Events of an answer in chunks; -1: its chunks are not whole. */
function eventsIn(answer: string): number {
  let rest = answer.slice(answer.indexOf("\r\n\r\n") + 4);
  let events = "";
  for (;;) {
    const size = /^([0-9a-f]+)\r\n/.exec(rest);
    if (size === null) return -1;
    const start = size[0].length;
    const end = start + Number.parseInt(size[1]!, 16);
    if (rest.slice(end, end + 2) !== "\r\n") return -1;
    if (end === start) return rest.length === end + 2 ? events.match(/^data: /gm)!.length : -1;
    events += rest.slice(start, end);
    rest = rest.slice(end + 2);
  }
}

test("a client that takes nothing from its socket pauses the source, and is cut after a while", async () => {
  const clock = new ManualClock();
  const abort = new AbortController();
  let sent = 0;
  let isClosed = false;
  async function* endless(): AsyncGenerator<string> {
    try {
      for (; ; sent++) yield sseData("x".repeat(10_000));
    } finally {
      isClosed = true;
    }
  }
  const answer = (): Response => sseResponse(clock, endless(), abort, {});
  const server = await listen(async () => answer(), { host: "127.0.0.1", port: 0 });
  const socket = connect(server.port, "127.0.0.1").pause();
  try {
    socket.write("GET / HTTP/1.1\r\nhost: here\r\n\r\n");
    let before = -1;
    await eventually("it goes on for nobody", () => sent > 0 && before === (before = sent));
    assert.ok(!abort.signal.aborted);
    await eventually("it is not cut", () => (clock.advance(clientStallMs), abort.signal.aborted && isClosed));
    assert.match(String(abort.signal.reason), /read nothing/);
  } finally {
    socket.destroy();
    await server.close();
  }
});
