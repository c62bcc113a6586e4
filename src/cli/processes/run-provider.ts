/** Constructs a provider from its configuration and runs it. */
import { resolveJoinTarget } from "../../client/join-address.ts";
import { sha256 } from "../../engine/sha256.ts";
import { watchGateways } from "../../network/announce.ts";
import { createSigner } from "../../network/identity.ts";
import { createLibp2pNetwork } from "../../network/libp2p.ts";
import type { Network } from "../../network/port.ts";
import { openGatewaySession } from "../../network/provider-session.ts";
import type { GatewaySession, RequestHandler, SessionDeps } from "../../network/session.ts";
import { signOffer } from "../../protocol/signing.ts";
import { createProvider, type GatewayLinkState } from "../../provider/index.ts";
import { createReceiptJournal } from "../../provider/receipt-journal.ts";
import { OwnWhereabouts } from "../../router/whereabouts.ts";
import { systemClock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import { systemRandom } from "../../util/random.ts";
import { openGatewayStore } from "../gateway-store.ts";
import { loadOrCreateIdentity } from "../home.ts";
import { createLogger } from "../logger.ts";
import { software } from "../package-info.ts";
import { createFirstJoin } from "./first-join.ts";
import { createMeter } from "./meter.ts";
import { startEngine } from "./start-engine.ts";
import type { ProviderActivity } from "../status-line.ts";
import type { ProviderConfig, Report, RunningRole } from "./config.ts";

export interface RunningProvider extends RunningRole {
  activity(): ProviderActivity;
}

type Reporter = (report: Report) => void;

/** @throws SkeinError when the engine cannot start, or (with `once`) no gateway can be joined */
export async function runProvider(config: ProviderConfig, report: Reporter): Promise<RunningProvider> {
  const log = createLogger(config.logLevel, "provider");
  const whereabouts = new OwnWhereabouts({ random: systemRandom });
  const deps = { clock: systemClock, random: systemRandom, log, whereabouts };
  const seed = loadOrCreateIdentity(config.identityFile);
  const signer = await createSigner(seed);
  // 1. The engine: nothing is offered before it runs.
  const { engine, backend } = await startEngine(config, signer.providerId, log, report);
  const name = config.engine.name ?? engine.model.name;
  engine.onStatus((status) =>
    report({ type: "engine", state: status.state, reason: status.state === "ready" ? "" : status.reason }),
  );
  // 2. Its receipts, and the network: dial out only.
  const store = await openGatewayStore(deps, config.receiptsFile);
  const chain = createReceiptJournal({ ...deps, store, sha256 });
  const network = await createLibp2pNetwork({ seed, listen: [], announce: [], lan: config.lan, log });
  // 3. The provider between the two.
  const token = config.joinToken;
  const meter = createMeter();
  const firstJoin = createFirstJoin(systemClock, { targets: config.join, lan: config.lan });
  const provider = createProvider(
    {
      ...deps,
      sign: (offer) => signOffer(signer, offer),
      receipts: { ...deps, sha256, signer, chain, software },
      connect: (target, handler, signal) =>
        connect(network, target, token, meter.metered(handler), signal, deps),
    },
    {
      providerId: signer.providerId,
      region: config.region,
      served: [{ engine, name, price: config.price }],
      onGateway: (target, state) => {
        reportLink(report, target, state);
        firstJoin.onGateway(target, state);
      },
    },
  );
  const { modelId } = engine.model;
  report({ type: "ready", role: "provider", id: signer.providerId, model: name, modelId, backend });
  // 4. Gateways: those named, and those heard of in the same network.
  for (const target of config.join) provider.join(target);
  const stopWatching = watchGateways({ ...deps, network }, { token }, (gatewayId, address) =>
    provider.joinHeardOf(gatewayId, address),
  );
  const running: RunningProvider = {
    activity: () => ({ ...meter.totals(), gateways: provider.gateways().length }),
    drain: () => provider.drain(config.drainTimeoutMs),
    async close() {
      stopWatching();
      await provider.close();
      await network.close();
      await store.close();
    },
  };
  if (config.once) await orClose(firstJoin.settled, running);
  return running;
}

async function orClose(joined: Promise<void>, running: RunningRole): Promise<void> {
  try {
    await joined;
  } catch (error) {
    await running.close();
    throw error;
  }
}

/** A gateway tells several addresses; one that swallows packets must leave time for the others. */
const dialTimeoutMs = 4_000;

async function connect(
  network: Network,
  target: string,
  token: string | null,
  handler: RequestHandler,
  signal: AbortSignal,
  deps: SessionDeps,
): Promise<GatewaySession> {
  const addresses = await resolveJoinTarget(target, signal);
  let failure: unknown = new SkeinError("connection_failed", `${target} names no address to connect to.`);
  for (const address of addresses) {
    try {
      const connection = await network.dial(
        address,
        AbortSignal.any([signal, AbortSignal.timeout(dialTimeoutMs)]),
      );
      return await openGatewaySession(
        deps,
        connection,
        { providerId: network.peerId, token, software },
        handler,
      );
    } catch (error) {
      failure = error;
      if (error instanceof SkeinError && error.code === "join_refused") break;
    }
  }
  throw failure;
}

function reportLink(report: Reporter, target: string, link: GatewayLinkState): void {
  if (link.state === "joined") report({ type: "joined", target, gatewayId: link.gatewayId });
  if (link.state === "waiting") {
    report({ type: "lost", target, message: link.error.text, retryInMs: link.retryInMs });
  }
}
