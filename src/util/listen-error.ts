import { SkeinError } from "./errors.ts";

const addressHint = "Give --listen one of this machine's addresses, or none for all of them.";

/** What the system's error codes mean for whoever wants to listen, and what to do about it. */
const reasons: Record<string, { why: string; hint: string }> = {
  EACCES: {
    why: "this user may not open that port",
    hint: "Choose a port above 1023 with {portOption}.",
  },
  EADDRNOTAVAIL: {
    why: "this machine does not have that address",
    hint: addressHint,
  },
  EAFNOSUPPORT: {
    why: "this machine has no addresses of that kind",
    hint: addressHint,
  },
  EINVAL: {
    why: "that address cannot be listened on",
    hint: addressHint,
  },
  ENOTFOUND: {
    why: "that name has no address",
    hint: addressHint,
  },
};

/**
 * @param code the system's error code (`EADDRINUSE`), or words where there is none
 * @param where for people: host and port, and the option that changes the port
 */
export function listenError(
  code: string,
  where: { readonly address: string; readonly portOption: string },
  cause: unknown,
): SkeinError {
  const { address, portOption } = where;
  if (code === "EADDRINUSE") {
    return new SkeinError("port_in_use", `Cannot listen on ${address}: another program uses that port.`, {
      hint: `Stop the other program, or choose another port with ${portOption}.`,
      cause,
    });
  }
  const { why, hint } = reasons[code] ?? {
    why: code,
    hint: `Check address and port (--listen, ${portOption}).`,
  };
  return new SkeinError("invalid_config", `Cannot listen on ${address}: ${why}.`, {
    hint: hint.replace("{portOption}", portOption),
    cause,
  });
}
