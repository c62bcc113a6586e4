/** Network over libp2p: TCP, noise, yamux; gossip; local discovery by mDNS where asked for. */
import { gossipsub, type GossipSub } from "@libp2p/gossipsub";
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { identify } from "@libp2p/identify";
import type { Connection as PeerConnection, Libp2p, PeerDiscovery, Stream } from "@libp2p/interface";
import { mdns } from "@libp2p/mdns";
import { noise } from "@libp2p/noise";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { SkeinError } from "../util/errors.ts";
import type { Logger } from "../util/log.ts";
import { Libp2pConnection } from "./libp2p-connection.ts";
import { cannotConnect, cannotListen, checkDialAddress } from "./libp2p-errors.ts";
import { Neighbours } from "./neighbours.ts";
import { type Connection, gossipBytesMax, type Network } from "./port.ts";
import { sendFewerWindowUpdates } from "./window-updates.ts";

export const sessionProtocol = "/skein/session/1";
const mdnsServiceTag = "skein.local";
/** One gateway's providers. */
const connectionsMax = 10_000;
/** A rack that starts at once comes from one address. */
const connectionsPerSecondMax = 500;

export interface Libp2pOptions {
  /** 32 secret bytes of the identity. */
  readonly seed: Uint8Array;
  /** Multiaddrs to listen on; empty: only dial out. */
  readonly listen: readonly string[];
  /** Multiaddrs to tell others instead of those listened on (behind a port forwarding). */
  readonly announce: readonly string[];
  /** Whether to find and be found on the local network. */
  readonly lan: boolean;
  readonly log: Logger;
}

type Services = { identify: unknown; pubsub: GossipSub };

/** @throws SkeinError `port_in_use`, `invalid_config` */
export async function createLibp2pNetwork(options: Libp2pOptions): Promise<Network> {
  options.announce.forEach(checkAddress);
  const neighbours = new Neighbours();
  const node = await start(options, neighbours);
  const pubsub = node.services.pubsub;
  const topics = new Map<string, Set<(data: Uint8Array, from: string) => void>>();
  let handler: ((connection: Connection) => void) | null = null;

  await node.handle(
    sessionProtocol,
    (stream, connection) => {
      if (handler === null) stream.abort(new Error("nobody serves here yet"));
      else handler(wrap(stream, connection));
    },
    { maxInboundStreams: 4, maxOutboundStreams: 4 },
  );
  pubsub.addEventListener("message", ({ detail }) => {
    if (detail.type !== "signed") return;
    for (const listener of topics.get(detail.topic) ?? []) listener(detail.data, detail.from.toString());
  });

  return {
    peerId: node.peerId.toString(),
    addresses: () => node.getMultiaddrs().map(String),
    async dial(address, signal) {
      const connection = await connect(node, address, signal);
      try {
        return wrap(await connection.newStream(sessionProtocol, { signal }), connection);
      } catch (error) {
        throw cannotConnect(address, error, { tcpConnected: true, peerProved: true }, signal);
      }
    },
    async connect(address, signal) {
      await connect(node, address, signal);
    },
    onConnection(next) {
      handler = next;
    },
    async publish(topic, data) {
      if (data.length > gossipBytesMax)
        throw new SkeinError("protocol_violation", "The gossip is too large.");
      await pubsub.publish(topic, data);
    },
    subscribe(topic, listener) {
      const listeners = topics.get(topic) ?? new Set();
      if (listeners.size === 0) pubsub.subscribe(topic);
      topics.set(topic, listeners.add(listener));
      return () => {
        listeners.delete(listener);
        if (listeners.size === 0) pubsub.unsubscribe(topic);
      };
    },
    onDiscovery: (listener) => neighbours.onFound(listener),
    close: async () => node.stop(),
  };
}

async function start(options: Libp2pOptions, neighbours: Neighbours): Promise<Libp2p<Services>> {
  const node = await createLibp2p<Services>({
    privateKey: await generateKeyPairFromSeed("Ed25519", options.seed),
    start: false,
    addresses: {
      listen: [...options.listen],
      ...(options.announce.length > 0 ? { announce: [...options.announce] } : {}),
    },
    transports: [tcp({ dialOpts: { noDelay: true }, listenOpts: { noDelay: true } })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    peerDiscovery: options.lan ? [(components: MdnsComponents) => discovery(components, neighbours)] : [],
    // Our heartbeat judges; one slow ping under load must not cut every request.
    connectionMonitor: { enabled: false },
    connectionManager: {
      maxConnections: connectionsMax,
      inboundConnectionThreshold: connectionsPerSecondMax,
      maxIncomingPendingConnections: connectionsPerSecondMax,
      reconnectRetries: 0,
    },
    services: {
      identify: identify(),
      pubsub: gossipsub({
        allowPublishToZeroTopicPeers: true,
        emitSelf: false,
        maxInboundDataLength: 4 * gossipBytesMax,
      }),
    },
  });
  try {
    await node.start();
    return node;
  } catch (error) {
    await Promise.resolve(node.stop()).catch(() => undefined);
    throw cannotListen(error, options.listen);
  }
}

type MdnsComponents = Parameters<ReturnType<typeof mdns>>[0];

/** Asks itself, not libp2p: that reports every peer it hears of as discovered, and each only once. */
function discovery(components: MdnsComponents, neighbours: Neighbours): PeerDiscovery {
  const service = mdns({ serviceTag: mdnsServiceTag })(components);
  service.addEventListener("peer", ({ detail }) => {
    const peerId = detail.id.toString();
    const addresses = detail.multiaddrs.map((address) => withPeerId(String(address), peerId));
    neighbours.found({ peerId, addresses });
  });
  return service;
}

/** libp2p would fail on a wrong one later, where nobody hears it. */
function checkAddress(address: string): void {
  try {
    multiaddr(address);
  } catch (error) {
    throw new SkeinError("invalid_config", `${address} is not an address to announce.`, {
      hint: "Give multiaddrs such as /ip4/192.0.2.1/tcp/4142.",
      cause: error,
    });
  }
}

/** @throws SkeinError `connection_failed` */
async function connect(
  node: Libp2p<Services>,
  address: string,
  signal: AbortSignal,
): Promise<PeerConnection> {
  let tcpConnected = false;
  const target = checkDialAddress(address, node.peerId.toString());
  try {
    return await node.dial(target, {
      signal,
      onProgress: ({ type }) => {
        // Encryption begins when the TCP connection stands.
        if (type === "upgrader:encrypt-outbound-connection") tcpConnected = true;
      },
    });
  } catch (error) {
    throw cannotConnect(address, error, { tcpConnected, peerProved: false }, signal);
  }
}

function wrap(stream: Stream, connection: PeerConnection): Connection {
  sendFewerWindowUpdates(stream);
  return new Libp2pConnection(stream, connection.remotePeer.toString(), connection.remoteAddr.toString());
}

function withPeerId(address: string, peerId: string): string {
  return address.includes("/p2p/") ? address : `${address}/p2p/${peerId}`;
}
