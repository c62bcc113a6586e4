/** `skein up` keeps its network running, and ends with everything it started. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { eventually, killAll, processesWith, type Running, skein, stop, temporaryHome } from "./processes.ts";

const linuxOnly = { skip: process.platform !== "linux" };
const entry = fileURLToPath(new URL("../../bin/skein.mjs", import.meta.url));
const home = temporaryHome();

after(async () => {
  await killAll();
  home.remove();
});

async function startNetwork(): Promise<{ network: Running; url: string }> {
  const network = skein(home.path, "up", "--port", "0", "--providers", "1");
  const [, url] = await network.printed(/(http:\/\/127\.0\.0\.1:\d+)\/v1/);
  await network.printed(/Ctrl-C/);
  return { network, url: url! };
}

/** Gateway and provider processes of the network, in the order of their start. */
function childrenOf(): number[] {
  return processesWith(home.path)
    .filter((pid) => /processes.child/.test(readFileSync(`/proc/${pid}/cmdline`, "utf8")))
    .toSorted((a, b) => a - b);
}

async function answers(url: string): Promise<true | null> {
  const body = { model: "tiny", messages: [{ role: "user", content: "3 + 83 = ?" }], temperature: 0 };
  const request = {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  try {
    const response = await fetch(`${url}/v1/chat/completions`, request);
    return response.ok && /86/.test(await response.text()) ? true : null;
  } catch {
    return null; // The gateway is away.
  }
}

test("gateway and provider are started again when they die, where they were", linuxOnly, async () => {
  const { network, url } = await startNetwork();
  const [gateway, provider] = childrenOf();
  process.kill(provider!, "SIGKILL");
  await network.printed(/provider 1 ended \(signal SIGKILL\); starting it again in 1 s/);
  await network.printed(/provider 1 runs again/);
  process.kill(gateway!, "SIGKILL");
  await network.printed(/the gateway ended/);
  await network.printed(/the gateway runs again/);
  await eventually("answers at the same address", () => answers(url));
  await stop(network);
  assert.deepEqual(processesWith(home.path), []);
});

test("a process that hangs does not keep Ctrl-C from ending everything", linuxOnly, async () => {
  const { network } = await startNetwork();
  for (const pid of childrenOf()) process.kill(pid, "SIGSTOP");
  await stop(network);
  await eventually("all gone", async () => (processesWith(home.path).length === 0 ? true : null), 10_000);
});

test("stopping while the engine is being installed ends npm too", linuxOnly, async () => {
  const bin = join(home.path, "bin");
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, "npm"), "#!/bin/sh\necho installing\nsleep 600\n");
  chmodSync(join(bin, "npm"), 0o755);
  const own = join(home.path, "own");
  // An installation that is not whole has to be made anew.
  mkdirSync(join(own, "engines", "llama", "node_modules"), { recursive: true });
  writeFileSync(
    join(own, "engines", "llama", "node_modules", ".skein-engine.json"),
    JSON.stringify({ lock: "older", gpu: "vulkan", platform: "other" }),
  );
  const { PATH: path } = process.env;
  process.env["PATH"] = `${bin}${delimiter}${path}`;
  try {
    const network = skein(own, "up", "--port", "0");
    await network.printed(/installing$/m);
    await eventually("npm and what it started run", async () => processesWith(own).length >= 3 || null);
    await stop(network);
    await eventually("all gone", async () => (processesWith(own).length === 0 ? true : null), 10_000);
  } finally {
    process.env["PATH"] = path;
  }
});

/** A Node that is old enough to start a newer one, where this machine has one. */
function olderNode(): string | null {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    const file = join(folder, "node");
    if (!existsSync(file)) continue;
    const major = Number.parseInt(
      execFileSync(file, ["-p", "process.versions.node"], { encoding: "utf8" }),
      10,
    );
    if (major >= 20 && major < 24) return file;
  }
  return null;
}

test(
  "under an older Node: when the entry alone is killed outright, what it started ends",
  linuxOnly,
  async (t) => {
    const node = olderNode();
    if (node === null) return t.skip("there is no Node between 20 and 24 here");
    const env = { ...process.env, SKEIN_HOME: home.path };
    const child = spawn(node, [entry, "gateway", "--port", "0", "--network-port", "0"], {
      env,
      stdio: ["ignore", "pipe", "ignore"],
    });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    assert.equal(processesWith(home.path).length, 2);
    child.kill("SIGKILL");
    await eventually("all gone", async () => (processesWith(home.path).length === 0 ? true : null), 10_000);
  },
);
