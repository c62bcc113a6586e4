/**
 * An ordinary OpenAI-compatible server: one engine and one HTTP door in one process, as the rival's upstreams are. What
 * it does beyond the engine is this project's gateway, so that both sides have the same server.
 *
 *   upstream-child <exact|llama> <port> <cache folder>
 */
import { openExactEngine } from "../src/engine/exact/open.ts";
import { createLlamaEngine } from "../src/engine/llama/index.ts";
import type { Engine } from "../src/engine/port.ts";
import { listen } from "../src/gateway/http/listen.ts";
import { createSigner } from "../src/network/identity.ts";
import { MemoryHub } from "../src/network/memory.ts";
import { systemClock } from "../src/util/clock.ts";
import { silentLogger } from "../src/util/log.ts";
import { systemRandom } from "../src/util/random.ts";
import { tinyModel } from "../test/e2e/processes.ts";
import { openGateway, providerOf } from "./lib/composition.ts";
import { llamaModuleFolder } from "./lib/llama-module.ts";

const parallel = 8;
const deps = { clock: systemClock, random: systemRandom, log: silentLogger };
const [kind, port, cacheFolder] = process.argv.slice(2);

function openEngine(): Promise<Engine> {
  const common = { modelPath: tinyModel, contextTokens: null, parallel, threads: 1 };
  if (kind === "llama") {
    const own = { moduleFolder: llamaModuleFolder, gpu: false, modelId: "tiny:1", name: "tiny" } as const;
    return createLlamaEngine(deps, { ...common, ...own });
  }
  const signal = new AbortController().signal;
  return openExactEngine(deps, { ...common, name: "tiny-exact", cacheFolder: cacheFolder!, signal });
}

const hub = new MemoryHub();
const [server, client] = await Promise.all([1, 2].map(() => createSigner(systemRandom.bytes(32))));
const network = hub.create(server!.providerId);
const gateway = openGateway(deps, network);
const provider = providerOf(deps, hub.create(client!.providerId), client!, await openEngine());
provider.join(network.addresses()[0]!);
await listen((request) => gateway.fetch(request), { host: "127.0.0.1", port: Number(port) });
// The parent's end is this one's, too.
process.on("disconnect", () => process.exit(0));
