/** Discovery on the local network with real multicast, where this machine has it. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { test } from "node:test";
import { systemClock } from "../util/clock.ts";
import { silentLogger } from "../util/log.ts";
import { seededRandom, systemRandom } from "../util/random.ts";
import { watchGateways } from "./announce.ts";
import { createLibp2pNetwork } from "./libp2p.ts";

const group = "224.0.0.251";
const port = 5353;
/** Loopback is instant; a machine under load is given its time. */
const probeTimeoutMs = 1_000;
/** The first question may get lost; the second one follows after ten seconds. */
const discoveryTimeoutMs = 25_000;

/** Why multicast does not work here; null when what is sent to the group comes back. */
function whyNoMulticast(): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = createSocket({ type: "udp4", reuseAddr: true });
    const end = (reason: string | null): void => {
      clearTimeout(timer);
      socket.close(() => resolve(reason));
    };
    const timer = setTimeout(() => end("what is sent to the group does not come back"), probeTimeoutMs);
    socket.once("error", (error) => end(error.message));
    socket.once("message", () => end(null));
    socket.bind(port, () => {
      try {
        socket.addMembership(group);
        socket.setMulticastLoopback(true);
        // A DNS message without a question: whoever else listens ignores it.
        socket.send(new Uint8Array(12), port, group, (error) => error !== null && end(error.message));
      } catch (error) {
        end(String(error));
      }
    });
  });
}

test("a gateway on the local network is found, and can be dialled where it was found", async (t) => {
  const reason = await whyNoMulticast();
  if (reason !== null) return t.skip(`multicast does not work on this machine: ${reason}`);
  const common = { announce: [], lan: true, log: silentLogger };
  // Other Skeins may run on the same network: identities that nobody else has.
  const [gatewaySeed, providerSeed] = [systemRandom.bytes(32), systemRandom.bytes(32)];
  const gateway = await createLibp2pNetwork({
    ...common,
    seed: gatewaySeed,
    listen: ["/ip4/127.0.0.1/tcp/0"],
  });
  gateway.onConnection(() => undefined);
  const provider = await createLibp2pNetwork({ ...common, seed: providerSeed, listen: [] });
  const deps = { clock: systemClock, random: seededRandom(1), log: silentLogger, network: provider };
  const found = Promise.withResolvers<string>();
  const timer = setTimeout(() => found.reject(new Error("not found in time")), discoveryTimeoutMs);
  const stop = watchGateways(deps, { token: null }, (gatewayId, address) => {
    if (gatewayId === gateway.peerId) found.resolve(address);
  });
  try {
    const address = await found.promise;
    const connection = await provider.dial(address, AbortSignal.timeout(5_000));
    assert.equal(connection.peerId, gateway.peerId);
  } finally {
    clearTimeout(timer);
    stop();
    await Promise.all([gateway.close(), provider.close()]);
  }
});
