/** What a person reads when a connection or a port is not to be had. */
import assert from "node:assert/strict";
import type { AddressInfo } from "node:net";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import { silentLogger } from "../util/log.ts";
import { seededRandom } from "../util/random.ts";
import { createLibp2pNetwork } from "./libp2p.ts";
import type { Network } from "./port.ts";

function libp2p(seed: number, listen: string[]): Promise<Network> {
  const options = { announce: [], lan: false, log: silentLogger };
  return createLibp2pNetwork({ ...options, seed: seededRandom(seed).bytes(32), listen });
}

const failure = (expected: string, words: RegExp, retry?: string) => (error: unknown) => {
  assert.ok(error instanceof SkeinError);
  assert.equal(error.code, expected);
  assert.match(error.text, words);
  if (retry !== undefined) assert.equal(error.retry, retry);
  return true;
};

describe("dialling", () => {
  let client: Network;
  let gateway: Network;
  const servers: Server[] = [];
  const sockets = new Set<Socket>();

  before(async () => {
    client = await libp2p(31, []);
    gateway = await libp2p(32, ["/ip4/127.0.0.1/tcp/0"]);
  });

  after(async () => {
    for (const server of servers) server.close();
    for (const socket of sockets) socket.destroy();
    await Promise.all([client.close(), gateway.close()]);
  });

  async function addressOf(server: Server): Promise<string> {
    servers.push(server);
    server.on("connection", (socket) => sockets.add(socket.on("error", () => undefined)));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return `/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}/p2p/${gateway.peerId}`;
  }

  const dial = (address: string, timeoutMs = 5_000): Promise<unknown> =>
    client.dial(address, AbortSignal.timeout(timeoutMs));

  test("addresses that can never be dialled say what is wrong with them, and are not tried", async () => {
    const id = gateway.peerId;
    const cases: [string, RegExp][] = [
      ["nonsense", /not a network address/],
      [`/ip4/999.0.0.1/tcp/4142/p2p/${id}`, /not a network address .*999/],
      ["/ip4/127.0.0.1/tcp/4142", /does not end in \/p2p\//],
      ["/ip4/127.0.0.1/tcp/4142/p2p/xyz", /no gateway's id/],
      [
        "/ip4/127.0.0.1/tcp/4142/p2p/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
        /no gateway's id: such an id begins with 12D3Koo/,
      ],
      [`/ip4/127.0.0.1/udp/4142/quic-v1/p2p/${id}`, /not a plain TCP address/],
      [`/ip4/127.0.0.1/tcp/4142/ws/p2p/${id}`, /not a plain TCP address/],
      [`/ip4/127.0.0.1/tcp/4142/p2p/${id}/p2p-circuit/p2p/${id}`, /not a plain TCP address/],
      [`/p2p/${id}`, /not a plain TCP address/],
      [`/ip4/127.0.0.1/tcp/4142/p2p/${client.peerId}`, /this process's own/],
    ];
    for (const [address, words] of cases) {
      await assert.rejects(dial(address), failure("connection_failed", words, "never"), address);
    }
  });

  test("nothing listens there; the name does not exist; somebody else answers", async () => {
    const unused = createServer();
    const address = await addressOf(unused);
    await new Promise((resolve) => unused.close(resolve));
    await assert.rejects(dial(address), failure("connection_failed", /nothing listens there/, "here"));
    await assert.rejects(
      dial(`/dns4/nowhere.invalid/tcp/4142/p2p/${gateway.peerId}`),
      failure("connection_failed", /name cannot be resolved|nobody answered/),
    );
    const real = gateway.addresses()[0]!;
    const stranger = await libp2p(33, []);
    await stranger.close();
    await assert.rejects(
      dial(real.replace(gateway.peerId, stranger.peerId)),
      failure("connection_failed", /another identity answers there/),
    );
  });

  test("what listens there is not Skein: a web server, one that hangs up, one that says nothing", async () => {
    const web = createHttpServer((_, response) => response.end("hello"));
    await assert.rejects(
      dial(await addressOf(web)),
      failure("connection_failed", /what answers there is not Skein.*port/),
    );
    const hangUp = createServer((socket) => socket.end());
    await assert.rejects(
      dial(await addressOf(hangUp)),
      failure("connection_failed", /what answers there is not Skein/),
    );
    const mute = createServer(() => undefined);
    await assert.rejects(
      dial(await addressOf(mute), 300),
      failure("connection_failed", /something listens there, but does not answer as a Skein gateway/),
    );
  });
});

test("only a port in use is called one; other failures to listen have their own words", async () => {
  const first = await libp2p(41, ["/ip4/127.0.0.1/tcp/0"]);
  const taken = first.addresses()[0]!.split("/p2p/")[0]!;
  const cases: [string, string, RegExp][] = [
    [taken, "port_in_use", /another program uses that port.*--network-port/],
    // TEST-NET-3 (RFC 5737): no machine has it.
    ["/ip4/203.0.113.9/tcp/0", "invalid_config", /203\.0\.113\.9.*does not have that address/],
    ["/ip4/localhost/tcp/0", "invalid_config", /localhost.*Invalid IPv4 address/],
    ["/ip4/127.0.0.1/tcp/99999", "invalid_config", /127\.0\.0\.1:99999.*65535/],
  ];
  for (const [address, code, words] of cases) {
    await assert.rejects(libp2p(42, [address]), failure(code, words), address);
  }
  await first.close();
});
