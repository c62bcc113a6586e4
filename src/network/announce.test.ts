import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../util/clock.ts";
import { silentLogger } from "../util/log.ts";
import { seededRandom } from "../util/random.ts";
import { announceTopic, createAnnouncer, watchGateways } from "./announce.ts";
import { createSigner } from "./identity.ts";
import { MemoryHub } from "./memory.ts";

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
