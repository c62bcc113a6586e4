import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import { resolveJoinTarget } from "./join-address.ts";

const soon = (): AbortSignal => AbortSignal.timeout(5000);
const id = "12D3KooWBDtotio2Z7BRj6CXuYsX4chaBc8GyyJ9BkYfTYbDwc4v";
let server: Server;
let port = 0;
let answer: unknown;

before(async () => {
  server = createServer((_, response) => response.end(JSON.stringify(answer)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as AddressInfo).port;
});
after(() => server.close());

test("a multiaddr is taken as it is", async () => {
  const address = `/ip4/192.0.2.1/tcp/4142/p2p/${id}`;
  assert.deepEqual(await resolveJoinTarget(address, soon()), [address]);
});

test("a URL or host:port is asked for its addresses, those of this machine first", async () => {
  answer = { peer_id: id, addresses: [`/ip4/10.0.0.5/tcp/7/p2p/${id}`, `/ip4/127.0.0.1/tcp/7/p2p/${id}`] };
  for (const target of [`http://127.0.0.1:${port}`, `127.0.0.1:${port}`, `http://localhost:${port}/`]) {
    assert.deepEqual(await resolveJoinTarget(target, soon()), [
      `/ip4/127.0.0.1/tcp/7/p2p/${id}`,
      `/ip4/10.0.0.5/tcp/7/p2p/${id}`,
    ]);
  }
});

test("what is no gateway is said so", async () => {
  const refused = (pattern: RegExp) => (error: unknown) =>
    error instanceof SkeinError && error.code === "connection_failed" && pattern.test(error.text);
  answer = { hello: "world" };
  await assert.rejects(resolveJoinTarget(`127.0.0.1:${port}`, soon()), refused(/No gateway answers/));
  await assert.rejects(
    resolveJoinTarget("http://127.0.0.1:9", soon()),
    refused(/No gateway answers.*npm start/s),
  );
  await assert.rejects(resolveJoinTarget("http://", soon()), refused(/neither/));
});

test("a host without a port is asked at the port that gateways have", async () => {
  // Ends at once: the point is where it would have asked.
  const gone = AbortSignal.abort();
  for (const [target, origin] of [
    ["gateway.example.org", "http://gateway.example.org:4141"],
    ["gateway.example.org:80", "http://gateway.example.org"],
    ["gateway.example.org:8080/", "http://gateway.example.org:8080"],
    ["http://gateway.example.org", "http://gateway.example.org"],
    ["[2001:db8::1]", "http://[2001:db8::1]:4141"],
  ]) {
    await assert.rejects(
      resolveJoinTarget(target!, gone),
      (error) => error instanceof SkeinError && error.message.endsWith(` ${origin!}.`),
    );
  }
});
