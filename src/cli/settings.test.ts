import assert from "node:assert/strict";
import { test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import { flagOf, resolveSettings, show, variableOf } from "./settings.ts";

const path = "/home/config.json";

function resolve(
  flags: Record<string, unknown>,
  environment: Record<string, string> = {},
  content: Record<string, unknown> = {},
) {
  return resolveSettings({ flags, environment, file: { path, content } });
}

function refused(attempt: () => unknown, ...says: RegExp[]): void {
  assert.throws(attempt, (error) => {
    assert.ok(error instanceof SkeinError && error.code === "invalid_config");
    for (const pattern of says) assert.match(error.text, pattern);
    return true;
  });
}

test("flags come before the environment, the environment before the file, the file before defaults", () => {
  const file = { port: 3, region: "file", parallel: 9 };
  const { values, sources } = resolve({ port: "1" }, { SKEIN_PORT: "2", SKEIN_REGION: "env" }, file);
  assert.deepEqual([values.port, values.region, values.parallel, values.lan], [1, "env", 9, false]);
  assert.deepEqual(
    [sources.port, sources.region, sources.parallel, sources.lan],
    ["flag", "environment", "file", "default"],
  );
});

test("names in flags, variables and file belong together", () => {
  assert.equal(variableOf("networkPort"), "SKEIN_NETWORK_PORT");
  assert.equal(flagOf("networkPort"), "--network-port");
});

test("every kind of value is read from text and from JSON", () => {
  const { values } = resolve(
    { open: true, allowProviders: "a, b,,c", priceInput: "0.15" },
    { SKEIN_LAN: "true" },
    { corsOrigins: ["https://x"], context: null },
  );
  assert.deepEqual(values.allowProviders, ["a", "b", "c"]);
  assert.deepEqual(values.corsOrigins, ["https://x"]);
  assert.deepEqual([values.open, values.lan, values.priceInput, values.context], [true, true, "0.15", null]);
});

test("errors name the key, the place and what is expected", () => {
  refused(() => resolve({ port: "99999" }), /--port/, /99999/, /0 to 65535/);
  refused(() => resolve({}, { SKEIN_PARALLEL: "many" }), /SKEIN_PARALLEL/, /whole number/);
  refused(() => resolve({}, {}, { lan: "yes" }), /config\.json: 'lan'/, /true or false/);
  refused(() => resolve({}, {}, { priceInput: 0.15 }), /'priceInput'/, /"0\.15"/);
  refused(() => resolve({}, {}, { netwrokPort: 1 }), /'netwrokPort'/, /'networkPort'/);
  refused(() => resolve({ logLevel: "loud" }), /--log-level/, /debug/);
});

test("secrets are never shown, also not in errors", () => {
  assert.equal(show("joinToken", "hush"), "••••");
  assert.equal(show("apiKeys", ["hush"]), "••••");
  assert.equal(show("joinToken", null), "–");
  assert.throws(
    () => resolve({}, {}, { joinToken: 12_345 }),
    (error) => error instanceof SkeinError && !error.text.includes("12345"),
  );
});

test("names and what they stand for are read from text and from JSON", () => {
  const expected = { "gpt-4o-mini": "tiny", other: "x" };
  assert.deepEqual(resolve({ aliases: "gpt-4o-mini=tiny, other = x" }).values.aliases, expected);
  assert.deepEqual(resolve({}, {}, { aliases: expected }).values.aliases, expected);
  const lists = { "sk-1": ["a", "b"], "sk-2": ["c"] };
  assert.deepEqual(resolve({}, { SKEIN_KEY_MODELS: "sk-1=a|b,sk-2=c" }).values.keyModels, lists);
  assert.deepEqual(resolve({}, {}, { keyModels: lists }).values.keyModels, lists);
  refused(() => resolve({ aliases: "tiny" }), /--aliases/, /a=b,c=d/);
  assert.doesNotMatch(show("keyModels", lists), /sk-1/);
});
