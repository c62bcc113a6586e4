import assert from "node:assert/strict";
import { type AddressInfo, connect, createServer } from "node:net";
import { test } from "node:test";
import type { Stream } from "@libp2p/interface";
import { systemRandom } from "../util/random.ts";
import { silentLogger } from "../util/log.ts";
import { createLibp2pNetwork } from "./libp2p.ts";
import { sendFewerWindowUpdates } from "./window-updates.ts";

test("updates are sent when half of the window is used, and while the stream is being opened", () => {
  let sent = 0;
  const stream = { state: 2, recvWindow: 100, recvWindowCapacity: 90, sendWindowUpdate: () => (sent += 1) };
  assert.ok(sendFewerWindowUpdates(stream as unknown as Stream));
  const counts = [
    { state: 2, recvWindowCapacity: 90 },
    { state: 3, recvWindowCapacity: 90 },
    { state: 3, recvWindowCapacity: 51 },
    { state: 3, recvWindowCapacity: 50 },
    { state: 3, recvWindowCapacity: 0 },
    { state: 5, recvWindowCapacity: 90 },
  ].map((values) => {
    Object.assign(stream, values).sendWindowUpdate();
    return sent;
  });
  assert.deepEqual(counts, [1, 1, 1, 2, 3, 4]);
  assert.equal(sendFewerWindowUpdates({} as Stream), false);
});

/** A TCP proxy that counts what goes back to whoever connected. */
async function countingProxy(
  targetPort: number,
): Promise<{ port: number; backBytes: () => number; close: () => void }> {
  let backBytes = 0;
  const server = createServer((from) => {
    const to = connect(targetPort, "127.0.0.1");
    from.pipe(to);
    to.on("data", (piece: Buffer) => (backBytes += piece.length)).pipe(from);
    for (const socket of [from, to]) socket.on("error", () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    backBytes: () => backBytes,
    close: () => server.close(),
  };
}

test("what libp2p sends back for many small frames is little; a window's worth many times passes", async () => {
  const network = (listen: readonly string[]) =>
    createLibp2pNetwork({
      seed: systemRandom.bytes(32),
      listen,
      announce: [],
      lan: false,
      log: silentLogger,
    });
  const [server, client] = await Promise.all([network(["/ip4/127.0.0.1/tcp/0"]), network([])]);
  const received = { bytes: 0, frames: 0, wake: (): void => undefined };
  server.onConnection((connection) =>
    connection.onFrame((frame) => {
      received.bytes += frame.length;
      received.frames += 1;
      received.wake();
    }),
  );
  const [, port, id] = /\/tcp\/(\d+)\/p2p\/(\w+)/.exec(server.addresses()[0]!)!;
  const proxy = await countingProxy(Number(port));
  const address = `/ip4/127.0.0.1/tcp/${proxy.port}/p2p/${id}`;
  const connection = await client.dial(address, AbortSignal.timeout(5_000));
  const send = async (frame: Uint8Array, count: number): Promise<void> => {
    const due = received.frames + count;
    for (let i = 0; i < count; i++) {
      const arrived = new Promise<void>((resolve) => (received.wake = resolve));
      if (!connection.send(frame)) await connection.drained();
      // One by one: each is a piece of its own.
      if (frame.length < 1_000) await arrived;
    }
    while (received.frames < due) await new Promise<void>((resolve) => (received.wake = resolve));
  };
  await send(new Uint8Array(10), 10);
  const beforeBytes = proxy.backBytes();
  await send(new Uint8Array(10), 300);
  // An update in its frame and its encryption has 30 bytes.
  assert.ok(proxy.backBytes() - beforeBytes < 300 * 30 * 0.2, `${proxy.backBytes() - beforeBytes} bytes`);
  await send(new Uint8Array(8_000), 300);
  assert.equal(received.bytes, 310 * 10 + 300 * 8_000);
  await Promise.all([client.close(), server.close()]);
  proxy.close();
});
