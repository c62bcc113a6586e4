/** Constructs a gateway from its configuration and runs it. */
import { createGateway } from "../../gateway/index.ts";
import { listen, type Listening } from "../../gateway/listen.ts";
import { createAnnouncer } from "../../network/announce.ts";
import { acceptProviderSession } from "../../network/gateway-session.ts";
import { createSigner } from "../../network/identity.ts";
import { createLibp2pNetwork } from "../../network/libp2p.ts";
import type { Network } from "../../network/port.ts";
import type { JoinPolicy } from "../../network/session.ts";
import { resolveJoinTarget } from "../../client/join-address.ts";
import { systemClock } from "../../util/clock.ts";
import { toSkeinError } from "../../util/errors.ts";
import { systemRandom } from "../../util/random.ts";
import { loadOrCreateIdentity } from "../home.ts";
import { createLogger } from "../logger.ts";
import { packageVersion, software } from "../package-info.ts";
import type { GatewayConfig, Report, RunningRole } from "./config.ts";

/** @throws SkeinError `port_in_use`, `invalid_config` */
export async function runGateway(
  config: GatewayConfig,
  report: (report: Report) => void,
): Promise<RunningRole> {
  const log = createLogger(config.logLevel, "gateway");
  const deps = { clock: systemClock, random: systemRandom, log };
  const seed = loadOrCreateIdentity(config.identityFile);
  const signer = await createSigner(seed);
  // 1. The door for providers.
  const network = await createLibp2pNetwork({
    seed,
    listen: [`/ip4/${config.networkHost}/tcp/${config.networkPort}`],
    announce: config.announce,
    lan: config.lan,
    log,
  });
  // 2. The gateway itself.
  const policy: JoinPolicy =
    config.restrictJoin === null ? { kind: "open" } : { kind: "restricted", ...config.restrictJoin };
  const gateway = createGateway(deps, {
    gatewayId: network.peerId,
    version: packageVersion,
    joinAddresses: () => network.addresses(),
    join: policy.kind,
    apiKeys: config.apiKeys,
    allowedHosts: config.allowedHosts,
    corsOrigins: config.corsOrigins,
    cloudPrice: config.cloudPrice,
    limits: config.limits,
  });
  network.onConnection((connection) => {
    acceptProviderSession(deps, connection, { gatewayId: network.peerId, policy, software })
      .then((session) => gateway.addSession(session))
      .catch((error: unknown) => {
        log.warn({ peer: connection.peerId, reason: toSkeinError(error).message }, "a peer was not let in");
      });
  });
  // 3. The door for clients.
  let listening: Listening;
  try {
    listening = await listen((request) => gateway.fetch(request), config);
  } catch (error) {
    await network.close();
    throw error;
  }
  // 4. Tell other peers of the network.
  const token = config.restrictJoin?.token ?? null;
  const announcer = await createAnnouncer({ ...deps, network, signer }, { token });
  await Promise.all(config.join.map((target) => meet(network, target)));

  const shown = config.host === "0.0.0.0" || config.host === "::" ? "127.0.0.1" : config.host;
  const url = `http://${shown.includes(":") ? `[${shown}]` : shown}:${listening.port}`;
  report({ type: "ready", role: "gateway", id: network.peerId, url, addresses: network.addresses() });
  return {
    async close() {
      announcer.close();
      gateway.close();
      await listening.close();
      await network.close();
    },
  };
}

/** Connects to another gateway's peer, so that gossip flows between the two. */
async function meet(network: Network, target: string): Promise<void> {
  const signal = AbortSignal.timeout(10_000);
  const [address] = await resolveJoinTarget(target, signal);
  // The session is refused (a gateway is no provider), but the connection below stays and carries gossip.
  if (address !== undefined) (await network.dial(address, signal)).close();
}
