/** Where a gateway listens, and where others reach it. */
import { isIP, isIPv4, isIPv6 } from "node:net";
import type { networkInterfaces } from "node:os";
import { SkeinError } from "../util/errors.ts";

export interface ListenAddress {
  /** An IP address. */
  readonly host: string;
  /** Null: not said. */
  readonly port: number | null;
}

/**
 * An address as people write it: `192.0.2.7`, `192.0.2.7:8080`, `::`, `[2001:db8::7]:8080`, `localhost`, `:8080`.
 *
 * @param where what to call it in an error: a flag or a setting
 * @throws SkeinError `invalid_config`
 */
export function parseListenAddress(text: string, where: string): ListenAddress {
  const bare = text.trim();
  if (isIP(bare) !== 0) return { host: bare, port: null };
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{1,5}))?$/.exec(bare);
  const [, inBrackets, plain, digits] = match ?? [];
  const host = inBrackets ?? named(plain ?? "", digits !== undefined);
  const port = digits === undefined ? null : Number(digits);
  const isGood = inBrackets === undefined ? isIPv4(host) : isIPv6(host);
  if (isGood && (port === null || port <= 65_535)) return { host, port };
  throw new SkeinError("invalid_config", `${where} ${text} is not an address of this machine.`, {
    hint: "Give an IP address, with or without a port: 192.0.2.7, 192.0.2.7:8080 or [2001:db8::7]:8080.",
  });
}

function named(host: string, hasPort: boolean): string {
  if (host === "localhost") return "127.0.0.1";
  return host === "" && hasPort ? "0.0.0.0" : host;
}

export function isLoopback(host: string): boolean {
  return host === "::1" || host.startsWith("127.");
}

export function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

/** `host:port` as part of a URL. */
export function hostAndPort(host: string, port: number): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

/** Hosts under which other machines reach one that listens on `host`, the most usual first. */
export function reachableHosts(host: string, interfaces: ReturnType<typeof networkInterfaces>): string[] {
  if (!isWildcard(host)) return isLoopback(host) ? [] : [host];
  const own = Object.values(interfaces)
    .flatMap((addresses) => addresses ?? [])
    // Link-local addresses mean nothing without the name of the asking machine's own interface.
    .filter(({ internal, address }) => !internal && !/^(fe80:|169\.254\.)/i.test(address))
    .filter(({ family }) => host === "::" || family === "IPv4");
  const sorted = own.toSorted((a, b) => Number(a.family === "IPv6") - Number(b.family === "IPv6"));
  return [...new Set(sorted.map(({ address }) => address))];
}
