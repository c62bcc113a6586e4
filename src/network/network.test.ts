import { silentLogger } from "../util/log.ts";
import { seededRandom } from "../util/random.ts";
import { createLibp2pNetwork } from "./libp2p.ts";
import { MemoryHub } from "./memory.ts";
import { describeNetwork } from "./network.suite.ts";
import type { Network } from "./port.ts";

describeNetwork("memory", async () => {
  const hub = new MemoryHub();
  const [server, client, third] = ["server", "client", "third"].map((name) => hub.create(name));
  return {
    server: server!,
    client: client!,
    third: third!,
    close: async () => void (await Promise.all([server!.close(), client!.close(), third!.close()])),
  };
});

function libp2p(seed: number, listen: string[]): Promise<Network> {
  return createLibp2pNetwork({
    seed: seededRandom(seed).bytes(32),
    listen,
    announce: [],
    lan: false,
    log: silentLogger,
  });
}

describeNetwork("libp2p", async () => {
  const server = await libp2p(1, ["/ip4/127.0.0.1/tcp/0"]);
  const client = await libp2p(2, []);
  const third = await libp2p(3, []);
  return {
    server,
    client,
    third,
    close: async () => void (await Promise.all([server.close(), client.close(), third.close()])),
  };
});
