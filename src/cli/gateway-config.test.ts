import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import type { NetworkInterfaceInfo } from "node:os";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import type { Context } from "./context.ts";
import { gatewayConfigOf } from "./gateway-config.ts";
import { gatewaySummary } from "./gateway-summary.ts";
import { resolveSettings } from "./settings.ts";

const folder = mkdtempSync(join(tmpdir(), "skein-gateway-config-"));
after(() => rmSync(folder, { recursive: true }));
let homes = 0;

function contextWith(
  flags: Record<string, unknown>,
  content: Record<string, unknown> = {},
  home = join(folder, String(homes++)),
): Context {
  const resolved = resolveSettings({ flags, environment: {}, file: { path: "config.json", content } });
  return { home, resolved, settings: resolved.values, flags, client: () => assert.fail("not asked") };
}

function refused(context: Context, pattern: RegExp): void {
  assert.throws(
    () => gatewayConfigOf(context),
    (error) => error instanceof SkeinError && error.code === "invalid_config" && pattern.test(error.text),
  );
}

test("on loopback nothing is asked of anybody", () => {
  const { config, secrets } = gatewayConfigOf(contextWith({}));
  assert.deepEqual([config.host, config.port, config.networkHost], ["127.0.0.1", 4141, "127.0.0.1"]);
  assert.deepEqual([config.restrictJoin, config.apiKeys, config.join], [null, [], []]);
  assert.deepEqual(secrets, { joinToken: null, apiKey: null });
  assert.deepEqual(config.allowedHosts, []);
});

test("beyond loopback a key and a token are made once, and kept in private files", () => {
  const context = contextWith({ listen: true });
  const first = gatewayConfigOf(context);
  assert.deepEqual([first.config.host, first.config.networkHost], ["0.0.0.0", "0.0.0.0"]);
  const { apiKey, joinToken } = first.secrets;
  assert.ok(apiKey?.isNew === true && joinToken?.isNew === true);
  assert.deepEqual(first.config.apiKeys, [apiKey.text]);
  assert.deepEqual(first.config.restrictJoin, { token: joinToken.text, allow: [] });
  assert.equal(readFileSync(apiKey.file!, "utf8").trim(), apiKey.text);
  if (process.platform !== "win32") assert.equal(statSync(joinToken.file!).mode & 0o777, 0o600);
  const second = gatewayConfigOf(context).secrets;
  assert.deepEqual(second.apiKey, { ...apiKey, isNew: false });
  assert.deepEqual(second.joinToken, { ...joinToken, isNew: false });
});

test("what is configured is used, and nothing is made", () => {
  const content = { apiKeys: ["one", "two"], joinToken: "hush", allowProviders: ["id"] };
  const { config, secrets } = gatewayConfigOf(contextWith({ listen: "192.0.2.7" }, content));
  assert.deepEqual(config.apiKeys, ["one", "two"]);
  assert.deepEqual(config.restrictJoin, { token: "hush", allow: ["id"] });
  assert.deepEqual(secrets.joinToken, { text: "hush", file: null, isNew: false });
  const open = gatewayConfigOf(contextWith({ listen: true, open: true }));
  assert.equal(open.config.restrictJoin, null);
  assert.ok(open.secrets.apiKey !== null, "clients need a key also where providers need nothing");
});

test("--listen takes a port, but not two different ones", () => {
  const port = (flags: Record<string, unknown>): number => gatewayConfigOf(contextWith(flags)).config.port;
  assert.equal(port({ listen: "127.0.0.1:8080" }), 8080);
  assert.equal(port({ listen: "[::1]:8080", port: "8080" }), 8080);
  assert.equal(port({ listen: "127.0.0.1", port: "8081" }), 8081);
  refused(contextWith({ listen: "127.0.0.1:8080", port: "8081" }), /8080.*8081/);
  refused(contextWith({ listen: "example.org" }), /--listen example\.org/);
  refused(contextWith({}, { host: "127.evil" }), /'host'/);
  assert.equal(
    gatewayConfigOf(contextWith({ listen: "127.0.0.1:8080" }, { port: 1 })).config.port,
    8080,
    "a flag comes before the file",
  );
});

const entry = (address: string): NetworkInterfaceInfo => ({
  address,
  family: "IPv4",
  internal: false,
  netmask: "",
  mac: "",
  cidr: null,
});

test("a gateway tells real addresses, and secrets only when they are new or asked for", () => {
  const context = contextWith({ listen: true });
  const summary = (showSecrets = false): { text: string; key: string; token: string } => {
    const { config, secrets } = gatewayConfigOf(context);
    const facts = { url: "http://127.0.0.1:50123", host: config.host, secrets, showSecrets };
    const text = gatewaySummary(facts, { eth0: [entry("192.168.1.7")] });
    return { text, key: secrets.apiKey!.text, token: secrets.joinToken!.text };
  };
  const first = summary();
  assert.match(first.text, /http:\/\/127\.0\.0\.1:50123\/v1\n\s+http:\/\/192\.168\.1\.7:50123\/v1/);
  assert.match(first.text, new RegExp(`--join 192\\.168\\.1\\.7:50123 --token ${first.token}`));
  assert.ok(first.text.includes(first.key));
  const second = summary().text;
  assert.ok(!second.includes(first.key) && !second.includes(first.token));
  assert.match(second, /API key\s+in \S+api\.key.*--show-secrets/);
  assert.match(second, /Join token\s+in \S+join\.token/);
  assert.ok(summary(true).text.includes(first.key) && summary(true).text.includes(first.token));
});
