/** The command line by itself: exit codes, closed pipes, and flags that may be repeated. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { killAll, skein, skeinToEnd, stop, temporaryHome } from "./processes.ts";

const run = promisify(execFile);
const entry = fileURLToPath(new URL("../../bin/skein.mjs", import.meta.url));
const home = temporaryHome();

after(async () => {
  await killAll();
  home.remove();
});

test("wrong usage ends with code 2 and says what is wrong", async () => {
  const wrong: [RegExp, ...string[]][] = [
    [/unknown command/, "serve"],
    [/unknown option/, "models", "--wrong"],
    [/--port.*65535/, "gateway", "--port", "99999"],
    [/--providers.*from 1 to 16/, "up", "--providers", "0"],
    [/--temperature.*from 0 to 2/, "chat", "hello", "--temperature", "hot"],
    [/--max-tokens/, "quote", "hello", "--max-tokens", "0.5"],
    [/nothing to provide/, "provide"],
    [/nothing to provide/, "provide", "--engine", "exact"],
    [/missing required argument/, "exact", "inspect"],
    [/--temperature.*from 0 to 2/, "exact", "run", "x.skein", "hello", "--temperature", "3"],
    [/--tokens.*whole number/, "exact", "check", "x.skein", "--tokens", "0"],
    [/--exact.*from 0 to 16/, "up", "--exact", "17"],
    [/no gateway to join/, "provide", "--engine", "openai", "--url", "http://127.0.0.1:9", "--join", ","],
    [/no engine 'onnx'/, "engine", "add", "onnx"],
  ];
  const ended = await Promise.all(wrong.map(([, ...args]) => skeinToEnd(home.path, ...args)));
  for (const [i, { code, output }] of ended.entries()) {
    assert.match(output, wrong[i]![0]);
    assert.equal(code, 2, output);
  }
});

test("a failure ends with code 1", async () => {
  const { code, output } = await skeinToEnd(home.path, "models", "--gateway", "http://127.0.0.1:9");
  assert.match(output, /No gateway answers/);
  assert.equal(code, 1);
});

test("config path names the file", async () => {
  const file = join(home.path, "config.json");
  assert.equal((await skeinToEnd(home.path, "config", "path")).output.trim(), file);
  assert.deepEqual(JSON.parse((await skeinToEnd(home.path, "config", "path", "--json")).output), {
    path: file,
  });
});

test("a reader that goes away ends a command quietly", { skip: process.platform === "win32" }, async () => {
  const env = { ...process.env, SKEIN_HOME: home.path, NODE: process.execPath, ENTRY: entry };
  for (const args of ["config --json", "--help"]) {
    // `sleep` makes sure that the reader is gone before the command writes.
    const script = `("$NODE" "$ENTRY" ${args}; echo "code $?" >&2) | exec true; sleep 0.1`;
    const { stderr } = await run("bash", ["-c", script], { env });
    assert.equal(stderr.trim(), "code 0", args);
  }
});

test("of several gateways each is tried: one that is gone does not keep a provider from the others", async () => {
  const upstream = createServer((_, response) => response.end('{"data": [{"id": "upstream-model"}]}'));
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}/v1`;
  const gone = ["http://127.0.0.1:9", "http://127.0.0.1:10"];
  const provide = (...targets: string[]): string[] => [
    "provide",
    "--engine",
    "openai",
    "--url",
    url,
    "--once",
    ...targets.flatMap((target) => ["--join", target]),
  ];
  try {
    const none = await skeinToEnd(home.path, ...provide(...gone));
    assert.match(none.output, /None of the 2 gateways.*127\.0\.0\.1:9: .*127\.0\.0\.1:10: /s);
    assert.equal(none.code, 1);

    const gateway = skein(home.path, "gateway", "--port", "0", "--network-port", "0");
    const [, address] = await gateway.printed(/Base URL\s+(http:\/\/[^/]+)\/v1/);
    const provider = skein(home.path, ...provide(gone[0]!, address!));
    await provider.printed(/joined/);
    await stop(provider);
    await stop(gateway);
  } finally {
    upstream.close();
  }
});
