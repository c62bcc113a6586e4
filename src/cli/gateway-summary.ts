/** What a gateway says when it is ready: where it is reached, and what one must know to get in. */
import type { networkInterfaces } from "node:os";
import type { GatewaySecret, GatewaySecrets } from "./gateway-config.ts";
import { hostAndPort, reachableHosts } from "./listen-address.ts";

export interface GatewayFacts {
  /** With the port that it really listens on. */
  readonly url: string;
  readonly host: string;
  readonly secrets: GatewaySecrets;
  /** Also those that were made at an earlier start. */
  readonly showSecrets: boolean;
}

export function gatewaySummary(
  facts: GatewayFacts,
  interfaces: ReturnType<typeof networkInterfaces>,
): string {
  const { url, secrets, showSecrets } = facts;
  const port = Number(new URL(url).port || 80);
  const others = reachableHosts(facts.host, interfaces).map((host) => hostAndPort(host, port));
  const urls = [...new Set([url, ...others.map((address) => `http://${address}`)])];
  const rows = urls.map((each, i) => [i === 0 ? "Base URL" : "", `${each}/v1`]);
  rows.push(...secretRows(secrets, showSecrets));
  const join = others[0] ?? new URL(url).host;
  rows.push(["Add a provider", `npx skein provide --model <file.gguf> --join ${join}${tokenFlag(facts)}`]);
  rows.push(["Stop", "Ctrl-C"]);
  return `\n${rows.map(([name, text]) => `  ${name!.padEnd(16)}${text}`).join("\n")}\n`;
}

/** One row for each secret: its text when it was just made, else only where it lies. */
export function secretRows(secrets: GatewaySecrets, showSecrets: boolean): [name: string, text: string][] {
  const rows: [string, GatewaySecret | null][] = [
    ["API key", secrets.apiKey],
    ["Join token", secrets.joinToken],
  ];
  return rows.flatMap(([name, secret]) => (secret === null ? [] : [[name, secretText(secret, showSecrets)]]));
}

function secretText(secret: GatewaySecret, showSecrets: boolean): string {
  const { text, file } = secret;
  if (isShown(secret, showSecrets)) return file === null ? text : `${text} (kept in ${file})`;
  return `${file === null ? "as configured" : `in ${file}`} (--show-secrets prints it)`;
}

function tokenFlag({ secrets, showSecrets }: GatewayFacts): string {
  const { joinToken } = secrets;
  if (joinToken === null) return "";
  return ` --token ${isShown(joinToken, showSecrets) ? joinToken.text : "<join token>"}`;
}

function isShown({ isNew }: GatewaySecret, showSecrets: boolean): boolean {
  return isNew || showSecrets;
}
