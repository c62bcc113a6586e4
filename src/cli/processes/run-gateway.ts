/** Constructs a gateway from its configuration and runs it. */
import { isIPv6 } from "node:net";
import { createGateway, type Gateway, type GatewayOptions } from "../../gateway/index.ts";
import { listen, type Listening } from "../../gateway/http/listen.ts";
import { cloudProviderId } from "../../gateway/search/cloud.ts";
import { DailyBudget } from "../../gateway/search/daily-budget.ts";
import { createOpenAiEngine } from "../../engine/openai.ts";
import { createAnnouncer } from "../../network/announce.ts";
import { acceptProviderSession } from "../../network/gateway-session.ts";
import { createSigner } from "../../network/identity.ts";
import { createLibp2pNetwork } from "../../network/libp2p.ts";
import type { Network } from "../../network/port.ts";
import type { JoinPolicy, SessionDeps } from "../../network/session.ts";
import { resolveJoinTarget } from "../../client/join-address.ts";
import { defaultPolicy } from "../../router/policy.ts";
import { OwnWhereabouts } from "../../router/whereabouts.ts";
import type { Store } from "../../store/port.ts";
import { systemClock } from "../../util/clock.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Logger } from "../../util/log.ts";
import { systemRandom } from "../../util/random.ts";
import { budgetFile } from "../budget-file.ts";
import { openGatewayStore } from "../gateway-store.ts";
import { loadOrCreateIdentity } from "../home.ts";
import { hostAndPort } from "../listen-address.ts";
import { createLogger } from "../logger.ts";
import { packageVersion, software } from "../package-info.ts";
import type { GatewayConfig, Report, RunningRole } from "./config.ts";
import { openAuditing } from "./open-auditing.ts";

/** @throws SkeinError `port_in_use`, `invalid_config` */
export async function runGateway(
  config: GatewayConfig,
  report: (report: Report) => void,
): Promise<RunningRole> {
  const log = createLogger(config.logLevel, "gateway");
  const deps = depsOf(log);
  const seed = loadOrCreateIdentity(config.identityFile);
  const signer = await createSigner(seed);
  // 1. The door for providers.
  const network = await createLibp2pNetwork({
    seed,
    listen: [`/ip${isIPv6(config.networkHost) ? 6 : 4}/${config.networkHost}/tcp/${config.networkPort}`],
    announce: config.announce,
    lan: config.lan,
    log,
  });
  // 2. The gateway itself.
  const policy: JoinPolicy =
    config.restrictJoin === null ? { kind: "open" } : { kind: "restricted", ...config.restrictJoin };
  let store: Store | null = null;
  let gateway: Gateway | null = null;
  let listening: Listening;
  try {
    store = await openGatewayStore(deps, config.storeFile);
    const audits = await openAuditing(signer, config.audits, deps.log);
    const cloud = await openCloud(deps, config.cloud);
    const options = { ...gatewayOptionsOf(config, network, policy.kind), ...audits, cloud };
    gateway = createGateway({ ...deps, store }, options);
    admitProviders(deps, network, gateway, policy);
    // 3. The door for clients.
    const { fetch: answer } = gateway;
    listening = await listen(answer, config);
  } catch (error) {
    gateway?.close();
    await store?.close();
    await network.close();
    throw error;
  }
  // 4. Tell other peers of the network.
  const token = config.restrictJoin?.token ?? null;
  const announcer = await createAnnouncer({ ...deps, network, signer }, { token });
  const stopMeeting = config.join.map((target) => keepMeeting(network, target, log));

  report({
    type: "ready",
    role: "gateway",
    id: network.peerId,
    url: urlOf(config.host, listening.port),
    addresses: network.addresses(),
  });
  return {
    async close() {
      for (const stop of stopMeeting) stop();
      announcer.close();
      gateway.close();
      await listening.close();
      await network.close();
      await store.close();
    },
  };
}

function admitProviders(deps: SessionDeps, network: Network, gateway: Gateway, policy: JoinPolicy): void {
  network.onConnection((connection) => {
    acceptProviderSession(deps, connection, { gatewayId: network.peerId, policy, software })
      .then((session) => gateway.addSession(session))
      .catch((error: unknown) => {
        deps.log.warn(
          { peer: connection.peerId, reason: toSkeinError(error).message },
          "a peer was not let in",
        );
      });
  });
}

/** Where programs on this machine reach the gateway. */
function urlOf(host: string, port: number): string {
  const own = host === "::" ? "::1" : host === "0.0.0.0" ? "127.0.0.1" : host;
  return `http://${hostAndPort(own, port)}`;
}

const meetIntervalMs = 5_000;
const meetTimeoutMs = 10_000;
/** One address that swallows packets must leave time for the others. */
const dialTimeoutMs = 4_000;

/** Stays connected to another gateway's peer, so that gossip flows between the two, in whatever order they start. */
function keepMeeting(network: Network, target: string, log: Logger): () => void {
  const stopped = new AbortController();
  let cancel = (): void => undefined;
  let lastReason = "";
  async function meet(): Promise<void> {
    try {
      const signal = AbortSignal.any([stopped.signal, AbortSignal.timeout(meetTimeoutMs)]);
      await connectToAny(network, await resolveJoinTarget(target, signal), signal);
      lastReason = "";
    } catch (error) {
      const reason = toSkeinError(error).message;
      if (reason !== lastReason && !stopped.signal.aborted)
        log.warn({ target, reason }, "another gateway is not reached");
      lastReason = reason;
    }
    if (!stopped.signal.aborted) cancel = systemClock.schedule(meetIntervalMs, () => void meet());
  }
  void meet();
  return () => {
    stopped.abort();
    cancel();
  };
}

/** @throws what the last address answered, when none can be connected to */
async function connectToAny(
  network: Network,
  addresses: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  let failure: unknown = null;
  for (const address of addresses) {
    try {
      return await network.connect(address, AbortSignal.any([signal, AbortSignal.timeout(dialTimeoutMs)]));
    } catch (error) {
      failure = error;
    }
  }
  if (failure !== null) throw failure;
}

function depsOf(log: Logger): SessionDeps {
  const whereabouts = new OwnWhereabouts({ random: systemRandom });
  return { clock: systemClock, random: systemRandom, log, whereabouts };
}

function gatewayOptionsOf(config: GatewayConfig, network: Network, join: JoinPolicy["kind"]) {
  return {
    gatewayId: network.peerId,
    version: packageVersion,
    joinAddresses: () => network.addresses(),
    join,
    region: config.region,
    apiKeys: config.apiKeys,
    joinToken: config.restrictJoin?.token ?? null,
    allowedHosts: config.allowedHosts,
    corsOrigins: config.corsOrigins,
    cloudPrice: config.cloudPrice,
    limits: config.limits,
    files: config.files,
    batches: config.batches,
    modelAccess: config.modelAccess,
    rateLimits: config.rateLimits,
    policy: { ...defaultPolicy, headroom: config.headroom, batchBeside: config.batchBeside },
    receipts: { retentionMs: config.receiptRetentionMs },
  };
}

/** A cloud that does not answer must not keep the gateway from starting. */
async function openCloud(deps: SessionDeps, cloud: GatewayConfig["cloud"]): Promise<GatewayOptions["cloud"]> {
  if (cloud === null) return null;
  const budget = openBudget(deps, cloud);
  try {
    const engine = await createOpenAiEngine(
      { ...deps, fetch },
      {
        url: cloud.url,
        upstreamModel: cloud.model,
        apiKey: cloud.apiKey,
        contextTokens: cloud.contextTokens,
        parallel: cloudParallel,
        providerId: cloudProviderId,
        mayBeAway: true,
      },
    );
    return { ...cloud, engine, budget };
  } catch (error) {
    deps.log.error({ reason: toSkeinError(error).message }, "the cloud of last resort is left out");
    return null;
  }
}

/** @throws SkeinError `invalid_config`: money that was spent must not be forgotten */
function openBudget({ clock }: SessionDeps, cloud: NonNullable<GatewayConfig["cloud"]>): DailyBudget {
  try {
    return new DailyBudget(clock, budgetFile(cloud.budgetFile), cloud.dailyBudget);
  } catch (error) {
    throw new SkeinError(
      "invalid_config",
      `${cloud.budgetFile} does not hold what the cloud has cost today.`,
      {
        hint: "Delete it to begin at zero.",
        cause: error,
      },
    );
  }
}

/** Clouds have room; this only bounds what a flood can start at once. */
const cloudParallel = 64;
