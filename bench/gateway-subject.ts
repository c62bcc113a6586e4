/**
 * The process that is measured: a paced engine, either called directly (the rival) or behind a provider, a
 * libp2p session, the gateway and HTTP. Reports its own CPU time.
 */
import { createNaiveEngine, naiveDefaults } from "../src/engine/naive.ts";
import { createGateway } from "../src/gateway/index.ts";
import { listen } from "../src/gateway/listen.ts";
import { defaultLimits } from "../src/gateway/options.ts";
import { acceptProviderSession } from "../src/network/gateway-session.ts";
import { createSigner } from "../src/network/identity.ts";
import { createLibp2pNetwork } from "../src/network/libp2p.ts";
import { openGatewaySession } from "../src/network/provider-session.ts";
import { greedySampling } from "../src/protocol/generate.ts";
import { freePriceSheet } from "../src/protocol/price.ts";
import { signOffer } from "../src/protocol/signing.ts";
import { createProvider } from "../src/provider/index.ts";
import { defaultPolicy } from "../src/router/policy.ts";
import { systemClock } from "../src/util/clock.ts";
import { silentLogger } from "../src/util/log.ts";
import { systemRandom } from "../src/util/random.ts";
import { type FromSubject, type Load, stagger, type ToSubject } from "./gateway-load.ts";

const deps = { clock: systemClock, random: systemRandom, log: silentLogger };
const software = "bench";

function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function engineFor({ streams, tokens, msPerToken }: Load) {
  const options = {
    ...naiveDefaults,
    parallelMax: streams,
    answerTokens: tokens,
    contextTokensMax: 8192,
    msPerToken,
  };
  return createNaiveEngine({ clock: systemClock }, options);
}

/** The rival: the engine's own iterator, read by a loop. */
async function direct(load: Load): Promise<FromSubject> {
  const engine = engineFor(load);
  const ttftMs: number[] = [];
  const startUs = cpuUs();
  const one = async (stream: number): Promise<void> => {
    await stagger(load, stream);
    for (let i = 0; i < load.requestsPerStream; i++) {
      const startMs = performance.now();
      let seen = false;
      const request = {
        requestId: "direct",
        modelId: engine.model.modelId,
        prompt: { kind: "chat", messages: [{ role: "user", content: "Which goose?" }] },
        emitted: { tokenIds: [], text: "" },
        sampling: greedySampling,
        stop: [],
        outputTokensMax: null,
        timeoutMs: 600_000,
      } as const;
      for await (const event of engine.generate(request, new AbortController().signal)) {
        if (event.type !== "tokens" || event.text === "" || seen) continue;
        seen = true;
        ttftMs.push(performance.now() - startMs);
      }
    }
  };
  await Promise.all(Array.from({ length: load.streams }, (_, stream) => one(stream)));
  return { type: "direct", ttftMs, cpuUs: cpuUs() - startUs };
}

async function serve(load: Load): Promise<FromSubject> {
  const common = { announce: [], lan: false, log: silentLogger };
  const server = await createLibp2pNetwork({
    ...common,
    seed: systemRandom.bytes(32),
    listen: ["/ip4/127.0.0.1/tcp/0"],
  });
  const seed = systemRandom.bytes(32);
  const client = await createLibp2pNetwork({ ...common, seed, listen: [] });
  const signer = await createSigner(seed);
  const gateway = createGateway(deps, {
    gatewayId: server.peerId,
    version: software,
    joinAddresses: () => server.addresses(),
    join: "open",
    apiKeys: [],
    allowedHosts: [],
    corsOrigins: [],
    cloudPrice: null,
    limits: defaultLimits,
    policy: defaultPolicy,
    cloud: null,
  });
  server.onConnection((connection) => {
    const options = { gatewayId: server.peerId, policy: { kind: "open" }, software } as const;
    void acceptProviderSession(deps, connection, options).then((session) => gateway.addSession(session));
  });
  const provider = createProvider(
    {
      ...deps,
      sign: (offer) => signOffer(signer, offer),
      connect: async (target, handler, signal) => {
        const connection = await client.dial(target, signal);
        return openGatewaySession(
          deps,
          connection,
          { providerId: client.peerId, token: null, software },
          handler,
        );
      },
    },
    {
      providerId: client.peerId,
      region: "",
      served: [{ engine: engineFor(load), name: "naive", price: freePriceSheet }],
    },
  );
  provider.join(server.addresses()[0]!);
  const { port } = await listen((request) => gateway.fetch(request), { host: "127.0.0.1", port: 0 });
  return { type: "serving", url: `http://127.0.0.1:${port}` };
}

// Timers of the engine do not keep a process alive; the parent's channel does.
const alive = setInterval(() => undefined, 1000);
process.on("disconnect", () => {
  clearInterval(alive);
  process.exit(0);
});
process.on("message", (message: ToSubject) => {
  const answer =
    message.type === "serve"
      ? serve(message.load)
      : message.type === "direct"
        ? direct(message.load)
        : Promise.resolve<FromSubject>({ type: "cpu", cpuUs: cpuUs() });
  void answer.then((result) => process.send?.(result));
});
