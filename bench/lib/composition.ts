/** Gateways and providers of benchmarks: the real ones, over any network, without configuration files. */
import type { Engine } from "../../src/engine/port.ts";
import { createGateway, type Gateway } from "../../src/gateway/index.ts";
import { defaultLimits, type GatewayLimits } from "../../src/gateway/options.ts";
import { acceptProviderSession } from "../../src/network/gateway-session.ts";
import type { Network } from "../../src/network/port.ts";
import { openGatewaySession } from "../../src/network/provider-session.ts";
import type { ProviderSession, RequestHandler, SessionDeps } from "../../src/network/session.ts";
import { freePriceSheet } from "../../src/protocol/price.ts";
import { type Signer, signOffer } from "../../src/protocol/signing.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { createProvider, type Provider } from "../../src/provider/index.ts";
import { defaultPolicy } from "../../src/router/policy.ts";

const software = "bench";

/** A gateway that anybody may join over `network`, and ask without a key. */
export function openGateway(
  deps: SessionDeps,
  network: Network,
  limits: Partial<GatewayLimits> = {},
): Gateway {
  const gateway = createGateway(
    { ...deps, store: new MemoryStore(deps.clock) },
    {
      gatewayId: network.peerId,
      version: "0.0.0",
      joinAddresses: () => network.addresses(),
      join: "open",
      apiKeys: [],
      allowedHosts: null,
      corsOrigins: [],
      cloudPrice: null,
      limits: { ...defaultLimits, ...limits },
      policy: defaultPolicy,
      cloud: null,
    },
  );
  acceptProviders(deps, network, (session) => gateway.addSession(session));
  return gateway;
}

/** Lets providers join over `network`, as a gateway does. */
export function acceptProviders(
  deps: SessionDeps,
  network: Network,
  onSession: (session: ProviderSession) => void,
): void {
  network.onConnection((connection) => {
    const facts = { gatewayId: network.peerId, policy: { kind: "open" } as const, software };
    // One that does not complete the handshake tries again by itself.
    acceptProviderSession(deps, connection, facts).then(onSession, () => undefined);
  });
}

/**
 * A provider of one free model.
 *
 * @param around changes what is answered, for providers that lie
 * @param region that it declares
 */
export function providerOf(
  deps: SessionDeps,
  network: Network,
  signer: Signer,
  engine: Engine,
  around: (handler: RequestHandler) => RequestHandler = (handler) => handler,
  region = "",
): Provider {
  const facts = { providerId: network.peerId, token: null, software };
  return createProvider(
    {
      ...deps,
      sign: (offer) => signOffer(signer, offer),
      connect: async (target, handler, signal) =>
        openGatewaySession(deps, await network.dial(target, signal), facts, around(handler)),
    },
    {
      providerId: network.peerId,
      region,
      served: [{ engine, name: engine.model.name, price: freePriceSheet }],
    },
  );
}
