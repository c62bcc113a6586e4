/** A gateway that listens beyond loopback, and processes that die. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import {
  eventually,
  killAll,
  processesWith,
  type Running,
  skein,
  skeinToEnd,
  stop,
  temporaryHome,
  tinyModel,
} from "./processes.ts";

const home = temporaryHome();
after(async () => {
  await killAll();
  home.remove();
});

/** An address of this machine that is not loopback; null in a sandbox without a network. */
function outerAddress(): string | null {
  const all = Object.values(networkInterfaces()).flat();
  return (
    all.find((entry) => entry !== undefined && entry.family === "IPv4" && !entry.internal)?.address ?? null
  );
}

async function startGateway(...args: string[]): Promise<{ gateway: Running; url: string }> {
  return startGatewayIn(home.path, ...args);
}

async function startGatewayIn(folder: string, ...args: string[]): Promise<{ gateway: Running; url: string }> {
  const gateway = skein(folder, "gateway", "--port", "0", "--network-port", "0", ...args);
  const [, url] = await gateway.printed(/Base URL\s+(http:\/\/[^/]+)\/v1/);
  await gateway.printed(/Stop/);
  return { gateway, url: url! };
}

test("beyond loopback: clients need a key, providers the token, strangers get neither", async () => {
  const { gateway, url } = await startGateway("--listen");
  const [, apiKey] = await gateway.printed(/API key\s+(sk-skein-\w+)/);
  const [, token] = await gateway.printed(/--token (skein-join-\w+)/);
  assert.equal((await fetch(`${url}/v1/models`)).status, 401);
  const headers = { authorization: `Bearer ${apiKey}` };
  assert.equal((await fetch(`${url}/v1/models`, { headers })).status, 200);
  if (process.platform !== "win32") {
    for (const name of readdirSync(home.path).filter((file) => /key|token/.test(file))) {
      assert.equal(statSync(join(home.path, name)).mode & 0o777, 0o600, name);
    }
  }

  const refused = await skeinToEnd(home.path, "provide", "--model", tinyModel, "--join", url, "--once");
  assert.equal(refused.code, 1, refused.output);
  assert.match(refused.output, /join token/);
  const wrong = await skeinToEnd(
    home.path,
    "provide",
    "--model",
    tinyModel,
    "--join",
    url,
    "--once",
    "--token",
    "guess",
  );
  assert.match(wrong.output, /not this gateway's/);

  const outer = outerAddress();
  const join_ = outer === null ? url : url.replace("127.0.0.1", outer);
  const provider = skein(home.path, "provide", "--model", tinyModel, "--join", join_, "--token", token!);
  await provider.printed(/joined/);
  await eventually("served", async () => {
    const { data } = (await (await fetch(`${url}/v1/models`, { headers })).json()) as { data: unknown[] };
    return data.length === 1 ? true : null;
  });
  const status = ["provider", "status", "--gateway", url];
  const mine = await skeinToEnd(home.path, ...status, "--token", token!);
  assert.match(mine.output, /available|checking/, "whoever joined sees why it gets no work");
  const chat = await skeinToEnd(
    home.path,
    "chat",
    "3 + 83 = ?",
    "--temperature",
    "0",
    "--gateway",
    url,
    "--api-key",
    apiKey!,
  );
  assert.match(chat.output, /86/);
  assert.doesNotMatch(gateway.output() + provider.output(), /3 \+ 83/, "prompts are not logged");
  await stop(provider);
  await stop(gateway);

  const again = await startGateway("--listen", "0.0.0.0:0");
  assert.doesNotMatch(again.gateway.output(), /sk-skein-|skein-join-/, "secrets are printed once");
  assert.match(again.gateway.output(), /api\.key/);
  const port = new URL(again.url).port;
  assert.notEqual(port, "0");
  if (outer !== null) assert.ok(again.gateway.output().includes(`http://${outer}:${port}/v1`));
  await stop(again.gateway);
});

test("--open is said aloud, and lets a provider in without a token", async () => {
  const { gateway, url } = await startGateway("--listen", "--open");
  assert.doesNotMatch(gateway.output(), /--token/);
  const provider = skein(home.path, "provide", "--model", tinyModel, "--join", url);
  await provider.printed(/joined/);
  await stop(provider);
  await stop(gateway);
});

test("Ctrl-C stops everything and leaves no process behind", async () => {
  const network = skein(home.path, "up", "--port", "0", "--providers", "2");
  await network.printed(/Ctrl-C/);
  assert.ok(processesWith(home.path).length >= 5, "launcher, gateway, providers and engines run");
  network.child.kill("SIGINT");
  assert.equal((await network.exited()).code, 0);
  // On a busy machine a provider may be killed for being late; its engine notices that by itself.
  await eventually("all gone", async () => (processesWith(home.path).length === 0 ? true : null), 5_000);
});

test("even when the launcher is killed outright, its processes end by themselves", async () => {
  const network = skein(home.path, "up", "--port", "0", "--providers", "1");
  await network.printed(/Ctrl-C/);
  const all = processesWith(home.path);
  for (const pid of all) {
    // The launcher is the entry and the Node that it re-executed itself under.
    if (/bin.skein\.mjs|cli.main\.ts/.test(readFileSync(`/proc/${pid}/cmdline`, "utf8")))
      process.kill(pid, "SIGKILL");
  }
  await eventually("all gone", async () => (processesWith(home.path).length === 0 ? true : null), 15_000);
});

test("a provider process that dies is started again, and so is an engine", async () => {
  const network = skein(home.path, "up", "--port", "0", "--providers", "1");
  const [, url] = await network.printed(/(http:\/\/127\.0\.0\.1:\d+)\/v1/);
  await network.printed(/Ctrl-C/);
  const engine = processesWith(home.path).find((pid) =>
    /llama.child/.test(readFileSync(`/proc/${pid}/cmdline`, "utf8")),
  );
  process.kill(engine!, "SIGKILL");
  await network.printed(/the engine is restarting/);
  await network.printed(/the engine runs again/);
  const answer = await eventually("answers", async () => {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: "tiny",
        messages: [{ role: "user", content: "3 + 83 = ?" }],
        temperature: 0,
      }),
    });
    return response.ok ? ((await response.json()) as { choices: { message: { content: string } }[] }) : null;
  });
  assert.match(answer.choices[0]!.message.content, /86/);
  await stop(network);
});

test("a provider tells why it cannot join, keeps trying, and joins when the gateway comes", async () => {
  const { gateway, url } = await startGateway();
  await stop(gateway);
  const port = new URL(url).port;
  const provider = skein(home.path, "provide", "--model", tinyModel, "--join", url);
  await provider.printed(/No gateway answers/);
  const again = skein(home.path, "gateway", "--port", port, "--network-port", "0");
  await provider.printed(/joined/);
  await stop(provider);
  await stop(again);
});

test("two gateways of one network: a provider that joined one is found by the other", async () => {
  const first = await startGateway();
  // Another folder: a gateway's identity lies in its home.
  const second = await startGatewayIn(join(home.path, "second"), "--join", first.url);
  const provider = skein(home.path, "provide", "--model", tinyModel, "--join", first.url);
  await provider.printed(/joined/);
  for (const { url } of [first, second]) {
    await eventually(`served at ${url}`, async () => {
      const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: unknown[] };
      return data.length === 1 ? true : null;
    });
  }
  await Promise.all([stop(provider), stop(first.gateway), stop(second.gateway)]);
});
