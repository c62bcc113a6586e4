import assert from "node:assert/strict";
import { test } from "node:test";
import { type Clock, ManualClock, systemClock } from "../util/clock.ts";
import { silentLogger } from "../util/log.ts";
import { seededRandom } from "../util/random.ts";
import {
  announceIntervalMs,
  announceTopic,
  createAnnouncer,
  neighbourLifetimeMs,
  watchGateways,
} from "./announce.ts";
import { authorWindowMs, messagesPerAuthorMax } from "./author-limit.ts";
import { createSigner } from "./identity.ts";
import { MemoryHub } from "./memory.ts";
import type { PeerAddress } from "./port.ts";

const deps = { clock: systemClock, random: seededRandom(1), log: silentLogger };
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test("gateways of the same network are heard of; others, forgeries and garbage are not", async () => {
  const hub = new MemoryHub();
  const [ours, other, liar] = await Promise.all(
    [1, 2, 3].map((seed) => createSigner(seededRandom(seed).bytes(32))),
  );
  const watcher = hub.create("watcher");
  const heard: string[] = [];
  const stop = watchGateways({ ...deps, network: watcher }, { token: "t" }, (gatewayId) =>
    heard.push(gatewayId),
  );

  const network = hub.create(ours!.providerId);
  const announcers = [
    await createAnnouncer({ ...deps, network, signer: ours! }, { token: "t" }),
    await createAnnouncer(
      { ...deps, network: hub.create(other!.providerId), signer: other! },
      { token: null },
    ),
    // Speaks in the name of somebody else: the signature is not theirs.
    await createAnnouncer({ ...deps, network: hub.create(ours!.providerId), signer: liar! }, { token: "t" }),
  ];
  await watcher.publish(announceTopic, new Uint8Array(3));
  await hub.peers.get(other!.providerId)!.publish(announceTopic, Uint8Array.of(1, 2, 3));
  await pause(50);
  assert.deepEqual(heard, [ours!.providerId]);
  stop();
  for (const announcer of announcers) announcer.close();
});

/** A hub with a watcher, and a gateway's announcement as it travels. */
async function setUp(clock: Clock) {
  const hub = new MemoryHub();
  const signer = await createSigner(seededRandom(1).bytes(32));
  const heard: string[] = [];
  const watcher = hub.create("watcher");
  let data = new Uint8Array(0);
  watcher.subscribe(announceTopic, (received) => (data = new Uint8Array(received)));
  const gateway = hub.create(signer.providerId);
  const announcer = await createAnnouncer({ ...deps, clock, network: gateway, signer }, { token: null });
  for (let i = 0; i < 200 && data.length === 0; i++) await pause(1);
  announcer.close();
  const watched = { ...deps, clock, network: watcher };
  const stop = watchGateways(watched, { token: null }, (gatewayId) => heard.push(gatewayId));
  return { hub, heard, data, gateway, gatewayId: signer.providerId, stop };
}

test("a flood of one author's announcements is not looked at; the next ones are", async () => {
  const clock = new ManualClock();
  const { heard, data, gateway, stop } = await setUp(clock);
  for (let i = 0; i < 100; i++) await gateway.publish(announceTopic, data);
  await pause(50);
  assert.equal(heard.length, messagesPerAuthorMax);
  clock.advance(authorWindowMs);
  await gateway.publish(announceTopic, data);
  await pause(20);
  assert.equal(heard.length, messagesPerAuthorMax + 1);
  stop();
});

test("an announcement counts only from its own author", async () => {
  const { hub, heard, data, gateway, gatewayId, stop } = await setUp(new ManualClock());
  await hub.create("parrot").publish(announceTopic, data);
  await pause(20);
  assert.deepEqual(heard, []);
  await gateway.publish(announceTopic, data);
  await pause(20);
  assert.deepEqual(heard, [gatewayId]);
  stop();
});

test("neighbours of the local network are reported while they are there, and then no more", async () => {
  const clock = new ManualClock();
  const network = new MemoryHub().create("watcher");
  let discover: (peer: PeerAddress) => void = () => undefined;
  network.onDiscovery = (listener) => (discover = listener);
  const heard: string[] = [];
  const stop = watchGateways({ ...deps, clock, network }, { token: null }, (_, address) =>
    heard.push(address),
  );
  discover({ peerId: "a", addresses: ["/ip4/192.0.2.1/tcp/1/p2p/a"] });
  assert.equal(heard.length, 1);
  clock.advance(announceIntervalMs);
  assert.equal(heard.length, 2);
  // It moved.
  discover({ peerId: "a", addresses: ["/ip4/192.0.2.1/tcp/2/p2p/a"] });
  clock.advance(neighbourLifetimeMs);
  assert.match(heard.at(-1)!, /tcp\/2\//);
  const { length } = heard;
  clock.advance(neighbourLifetimeMs);
  assert.ok(heard.length <= length + 1);
  stop();
});
