import type { GatewayView } from "../protocol/gateway-api.ts";
import { SkeinError } from "../util/errors.ts";
import { parseGatewayUrl } from "./gateway-url.ts";

/**
 * Turns what a person gives as a gateway (URL, `host:port`, or multiaddr) into multiaddrs to dial, the most
 * promising first. A join token is never sent here.
 *
 * @throws SkeinError `connection_failed`
 */
export async function resolveJoinTarget(target: string, signal: AbortSignal): Promise<string[]> {
  if (target.startsWith("/")) return [target];
  const url = joinUrl(target);
  let view: GatewayView;
  try {
    const response = await fetch(new URL("/skein/v1/gateway", url), { signal });
    view = (await response.json()) as GatewayView;
    if (!Array.isArray(view.addresses)) throw new TypeError("not a gateway's answer");
  } catch (error) {
    throw new SkeinError("connection_failed", `No gateway answers at ${url.origin}.`, {
      hint: "Start one with `npm start` or `skein gateway`, or give its address with --join.",
      cause: error,
    });
  }
  const addresses = view.addresses.filter((address) => typeof address === "string").slice(0, 16);
  if (isLoopback(url.hostname))
    return addresses.toSorted((a, b) => Number(isLoopbackAddress(b)) - Number(isLoopbackAddress(a)));
  // Seen from here the gateway is where the URL says; its own idea of its address may be a private one.
  const elsewhere = addresses.map((address) => withHost(address, url.hostname));
  return [...new Set([...elsewhere, ...addresses.filter((address) => !isLoopbackAddress(address))])];
}

function joinUrl(target: string): URL {
  const url = parseGatewayUrl(target);
  if (url !== null) return url;
  throw new SkeinError("connection_failed", `${target} is neither a URL, nor host:port, nor a multiaddr.`, {
    hint: "Examples: http://127.0.0.1:4141, 192.0.2.7:4141, /ip4/192.0.2.7/tcp/4142/p2p/12D3Koo…",
    retry: "never",
  });
}

function isLoopback(host: string): boolean {
  return host === "localhost" || /^127\.\d+\.\d+\.\d+$/.test(host) || host === "[::1]";
}

function isLoopbackAddress(address: string): boolean {
  return /^\/ip4\/127\.|^\/ip6\/::1\//.test(address);
}

/** `/ip4/10.0.0.5/tcp/4142/p2p/x` seen from `example.org`: `/dns4/example.org/tcp/4142/p2p/x`. */
function withHost(address: string, host: string): string {
  const rest = address.split("/").slice(3).join("/");
  if (/^\d+\.\d+\.\d+\.\d+$/.test(host)) return `/ip4/${host}/${rest}`;
  if (host.startsWith("[")) return `/ip6/${host.slice(1, -1)}/${rest}`;
  return `/dns/${host}/${rest}`;
}
