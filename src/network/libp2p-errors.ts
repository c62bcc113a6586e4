/** libp2p's failures in words that a person can act on. */
import { multiaddr, type Multiaddr } from "@multiformats/multiaddr";
import { publicKeyOf } from "../protocol/provider-id.ts";
import { SkeinError } from "../util/errors.ts";
import { listenError } from "../util/listen-error.ts";

const example = "/ip4/192.0.2.1/tcp/4142/p2p/12D3Koo…";
const idHint = "A gateway shows its address when it starts, and at /skein/v1/gateway.";

/** The only kind of address that is dialled. */
const dialable = /^(ip6zone )?(ip4|ip6|dns|dns4|dns6) tcp p2p$/;

/** @throws SkeinError `connection_failed` for what can never be dialled */
export function checkDialAddress(address: string, ownPeerId: string): Multiaddr {
  const shown = address.slice(0, 300);
  const wrong = (why: string, hint: string, cause?: unknown): SkeinError =>
    new SkeinError("connection_failed", `${shown} ${why}.`, { hint, retry: "never", cause });
  let target: Multiaddr;
  try {
    target = multiaddr(address);
  } catch (error) {
    throw wrong(`is not a network address (${messageOf(error)})`, `Give one such as ${example}`, error);
  }
  const peerId = /\/p2p\/([^/]+)$/.exec(address)?.[1];
  if (peerId === undefined) throw wrong("does not end in /p2p/ and the gateway's id", idHint);
  try {
    publicKeyOf(peerId);
  } catch (error) {
    throw wrong("ends in something that is no gateway's id: such an id begins with 12D3Koo", idHint, error);
  }
  const kinds = target.getComponents().map(({ name }) => name);
  if (!dialable.test(kinds.join(" "))) {
    throw wrong("is not a plain TCP address, the only kind that Skein dials", `Give one such as ${example}`);
  }
  if (peerId !== ownPeerId) return target;
  throw new SkeinError("connection_failed", "The address is this process's own.", {
    hint: "Two gateways need two identities: give one of them another SKEIN_HOME.",
    retry: "never",
  });
}

/** How far a dial came. */
export interface DialProgress {
  /** The TCP connection stands: whatever fails now, something listens there. */
  tcpConnected: boolean;
  /** The other end proved to be the peer that the address names. */
  peerProved: boolean;
}

export function cannotConnect(
  address: string,
  error: unknown,
  progress: DialProgress,
  signal: AbortSignal,
): SkeinError {
  const { why, hint } = explain(allMessages(error), progress, signal);
  return new SkeinError("connection_failed", `Cannot connect to ${address}: ${why}.`, { hint, cause: error });
}

function explain(
  text: string,
  { tcpConnected, peerProved }: DialProgress,
  signal: AbortSignal,
): { why: string; hint: string } {
  const isLate = signal.aborted || /timeout|timed out|ETIMEDOUT/i.test(text);
  if (peerProved) {
    return /UnsupportedProtocol|protocol selection failed/i.test(text)
      ? { why: "the peer there is not a Skein gateway", hint: idHint }
      : {
          why: isLate ? "the peer there opened no session in time" : "the peer there opened no session",
          hint: "It may be overloaded or just stopping.",
        };
  }
  if (/expected remote identity key|UnexpectedPeerError/.test(text)) {
    return {
      why: "another identity answers there than the address names",
      hint: `The gateway may have a new one. ${idHint}`,
    };
  }
  if (tcpConnected) {
    return {
      why: isLate
        ? "something listens there, but does not answer as a Skein gateway does"
        : "what answers there is not Skein",
      hint: "Check the port: providers connect to the gateway's network port (usually 4142), not to that for HTTP.",
    };
  }
  const hint = "Check the address, that the gateway runs, and that no firewall is in between.";
  if (/ECONNREFUSED/.test(text)) return { why: "nothing listens there (connection refused)", hint };
  if (/EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL/.test(text)) {
    return { why: "the machine cannot be reached from here", hint };
  }
  if (/ENOTFOUND|EAI_AGAIN/.test(text)) return { why: "the name cannot be resolved", hint };
  if (isLate) return { why: "nobody answered in time", hint };
  return { why: text.slice(0, 200), hint };
}

export function cannotListen(error: unknown, listen: readonly string[]): SkeinError {
  const text = allMessages(error);
  if (listen.length === 0) {
    return new SkeinError("invalid_config", `The network cannot start: ${text.slice(0, 300)}`, {
      cause: error,
    });
  }
  const doors = listen.map((address) => address.split("/").slice(2).join(":").replace(":tcp:", ":"));
  // libp2p keeps the system's error only as text.
  const code = /\bE[A-Z]{4,}\b/.exec(text)?.[0] ?? messageOf(error).slice(0, 200);
  const where = { address: `${doors.join(", ")} for providers`, portOption: "--network-port" };
  return listenError(code, where, error);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function allMessages(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(allMessages).join("; ");
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `: ${allMessages(error.cause)}`;
  return `${error.name === "Error" ? "" : `${error.name} `}${error.message}${cause}`;
}
