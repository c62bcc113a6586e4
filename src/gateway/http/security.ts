/** Who may talk to the gateway: host names (DNS rebinding), web origins, API keys. */
import { createHash, timingSafeEqual } from "node:crypto";
import { SkeinError } from "../../util/errors.ts";

const loopbackHosts = ["localhost", "127.0.0.1", "[::1]"];

export interface AccessRules {
  readonly apiKeys: readonly string[];
  /** Hosts besides loopback ones; null: any. */
  readonly allowedHosts: readonly string[] | null;
  readonly corsOrigins: readonly string[];
}

/**
 * A page of another site may make a browser send requests here, and may even make its own name point to
 * this machine. Neither gets an answer.
 *
 * @throws SkeinError `foreign_origin`
 */
export function checkOrigin(request: Request, rules: AccessRules): void {
  const host = request.headers.get("host") ?? new URL(request.url).host;
  const name = host.replace(/:\d+$/, "").toLowerCase();
  if (rules.allowedHosts !== null && ![...loopbackHosts, ...rules.allowedHosts].includes(name)) {
    throw new SkeinError("foreign_origin", `This gateway does not answer as '${name.slice(0, 100)}'.`, {
      hint: "Use its own address, or add the name to allowedHosts in its configuration.",
    });
  }
  const origin = request.headers.get("origin");
  if (origin === null || rules.corsOrigins.includes(origin) || sameOrigin(origin, host)) return;
  throw new SkeinError("foreign_origin", "Pages of other sites may not call this gateway.", {
    hint: "Add the page's origin to corsOrigins in the gateway's configuration.",
  });
}

function sameOrigin(origin: string, host: string): boolean {
  try {
    return new URL(origin).host === host;
  } catch {
    return false; // "null", or nonsense
  }
}

/** @throws SkeinError `invalid_api_key` */
export function checkApiKey(request: Request, rules: AccessRules): void {
  if (rules.apiKeys.length === 0) return;
  const given = keyIn(request);
  if (given === null) {
    throw new SkeinError("invalid_api_key", "You didn't provide an API key.", {
      hint: "Send it in the header 'authorization: Bearer …', or 'x-api-key'.",
    });
  }
  // Hashes have one length and reveal nothing by the time their comparison takes.
  const hash = digest(given);
  if (rules.apiKeys.map(digest).some((key) => timingSafeEqual(key, hash))) return;
  throw new SkeinError("invalid_api_key", "The API key is not one of this gateway's.", {
    hint: "Ask the gateway's operator for a key.",
  });
}

/** Whose request it is: the same for the same API key, and nobody's secret. Without keys all are one. */
export function ownerOf(request: Request, rules: AccessRules): string {
  if (rules.apiKeys.length === 0) return "";
  return ownerOfKey(keyIn(request) ?? "");
}

/** As OpenAI's clients send it, or Anthropic's. */
function keyIn(request: Request): string | null {
  const bearer = /^Bearer (.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  return bearer ?? request.headers.get("x-api-key");
}

export function ownerOfKey(apiKey: string): string {
  return digest(apiKey).toString("hex").slice(0, ownerHexLength);
}

/** 128 bits. */
const ownerHexLength = 32;

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** What tells API keys apart in the engines' caches, and tells the engines nothing about them. */
export function cacheSaltOf(salt: string, owner: string): string {
  return digest(`${salt}\n${owner}`).toString("hex");
}
