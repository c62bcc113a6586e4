/**
 * A process of the gateway benchmark: a source of tokens (`http`: an OpenAI-compatible server; `providers`: ours, joined to
 * a gateway; `raw`), or what stands between it and the clients (`gateway`: ours; `mux`: the least that can do).
 *
 *   gateway-child <role> <streams> [address …]
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createNaiveEngine, naiveDefaults } from "../src/engine/naive.ts";
import type { Engine } from "../src/engine/port.ts";
import { listen } from "../src/gateway/http/listen.ts";
import { createSigner } from "../src/network/identity.ts";
import { createLibp2pNetwork } from "../src/network/libp2p.ts";
import type { TokenBias } from "../src/protocol/generate.ts";
import { systemClock } from "../src/util/clock.ts";
import { silentLogger } from "../src/util/log.ts";
import { systemRandom } from "../src/util/random.ts";
import { openGateway, providerOf } from "./lib/composition.ts";
import { answerTokensOf, chunksOf, type Stepper, steppersFor, streamsPerMachine } from "./lib/pace.ts";
import { serveRawGateway, serveRawTokens } from "./lib/raw-mux.ts";

const deps = { clock: systemClock, random: systemRandom, log: silentLogger };
const [role, streamsText, ...addresses] = process.argv.slice(2);
const streams = Number(streamsText);
const answerTokens = answerTokensOf(streams);
/** More than its share: streams do not divide evenly. */
const slots = 2 * streamsPerMachine;

function libp2p(seed: Uint8Array, addressesToListen: readonly string[]) {
  return createLibp2pNetwork({
    seed,
    listen: addressesToListen,
    announce: [],
    lan: false,
    log: silentLogger,
  });
}

async function provide(stepper: Stepper): Promise<void> {
  const seed = systemRandom.bytes(32);
  const signer = await createSigner(seed);
  const engine = createNaiveEngine(deps, {
    ...naiveDefaults,
    parallelMax: slots,
    answerTokens,
    contextTokensMax: 8_192,
    onToken: (_, position) => (position === 0 ? undefined : stepper.next()),
  });
  providerOf(deps, await libp2p(seed, []), signer, sayingGoose(engine)).join(addresses[0]!);
}

/** Every token is a word, as those of the other sources: one of a part of a character would be no event. */
function sayingGoose(engine: Engine): Engine {
  const logitBias: TokenBias[] = [[1, 100]];
  return {
    ...engine,
    generate: (request, signal) =>
      engine.generate({ ...request, sampling: { ...request.sampling, logitBias } }, signal),
  };
}

/** The upstream of a proxy: an OpenAI-compatible server without anything but the events. */
function serveHttp(steppers: readonly Stepper[]): Promise<number> {
  let count = 0;
  const server = createServer((request, response) => {
    request.on("data", () => undefined);
    request.on("end", async () => {
      const { text } = chunksOf(String(++count));
      const stepper = steppers[count % steppers.length]!;
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (let position = 0; position < answerTokens; position++) {
        if (position > 0) await stepper.next();
        response.write(`data: ${text(0, { text: "goose ", logprobs: null })}\n\n`);
      }
      response.end("data: [DONE]\n\n");
    });
  });
  server.keepAliveTimeout = 60_000;
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });
}

async function start(): Promise<readonly string[]> {
  switch (role) {
    case "http":
      return [`http://127.0.0.1:${await serveHttp(steppersFor(streams))}`];
    case "raw":
      return Promise.all(
        steppersFor(streams).map(async (stepper) => String(await serveRawTokens(stepper, answerTokens))),
      );
    case "mux":
      return [`http://127.0.0.1:${await serveRawGateway(addresses.map(Number))}`];
    case "providers":
      await Promise.all(steppersFor(streams).map(provide));
      return [];
    case "gateway": {
      const network = await libp2p(systemRandom.bytes(32), ["/ip4/127.0.0.1/tcp/0"]);
      const gateway = openGateway(deps, network);
      const fetch = (request: Request): Promise<Response> => gateway.fetch(request);
      const { port } = await listen(fetch, { host: "127.0.0.1", port: 0 });
      return [`http://127.0.0.1:${port}`, ...network.addresses()];
    }
    default:
      throw new Error(`There is no role ${role}.`);
  }
}

process.on("disconnect", () => process.exit(0));
process.send!(await start());
