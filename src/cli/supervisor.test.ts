import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import type { GatewayConfig, Report } from "./processes/config.ts";
import { createSupervisor } from "./supervisor.ts";

const folder = mkdtempSync(join(tmpdir(), "skein-supervisor-"));
after(() => rmSync(folder, { recursive: true }));

const config = { role: "gateway" } as GatewayConfig;
const ready = JSON.stringify({ type: "ready", role: "gateway", id: "g", url: "http://x", addresses: [] });
let files = 0;

/** A supervisor of processes that run this program. */
function supervising(program: string, stopTimeoutMs = 5_000): ReturnType<typeof createSupervisor> {
  const file = join(folder, `${files++}.mjs`);
  writeFileSync(file, program);
  return createSupervisor({ file, stopTimeoutMs });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const failed = (code: string, pattern: RegExp) => (error: unknown) =>
  error instanceof SkeinError && error.code === code && pattern.test(error.text);

test("a process is ready when it says so, and its end is told unless it was asked for", async () => {
  const supervisor = supervising(`process.on("message", () => process.send(${ready}));`);
  const reports: Report[] = [];
  const [first, second] = await Promise.all([
    supervisor.start(config, (report) => reports.push(report)),
    supervisor.start(config, () => undefined),
  ]);
  assert.equal(first.ready.url, "http://x");
  assert.equal(reports.length, 1);
  const ends: string[] = [];
  second.onExit((how) => ends.push(how));
  const ended = new Promise<string>((resolve) => first.onExit(resolve));
  process.kill(first.pid, "SIGKILL");
  assert.equal(await ended, "signal SIGKILL");
  await supervisor.stopAll();
  assert.ok(!isAlive(second.pid));
  assert.deepEqual(ends, []);
  await assert.rejects(
    supervisor.start(config, () => undefined),
    failed("cancelled", /stopping/),
  );
});

test("a process that does not start tells why", async () => {
  const refusal = JSON.stringify({ type: "failed", code: "port_in_use", message: "Taken.", hint: "Choose." });
  const saying = supervising(
    `process.on("message", () => (process.send(${refusal}), process.disconnect()));`,
  );
  await assert.rejects(
    saying.start(config, () => undefined),
    failed("port_in_use", /Taken\. Choose\./),
  );
  const silent = supervising("process.exit(7);");
  await assert.rejects(
    silent.start(config, () => undefined),
    failed("internal_error", /exit code 7/),
  );
});

test(
  "a process that does not stop when asked is killed",
  { skip: process.platform === "win32" },
  async () => {
    const deaf = `process.on("SIGTERM", () => undefined);
    setInterval(() => undefined, 1000);
    process.on("message", () => process.send(${ready}));`;
    const supervisor = supervising(deaf, 200);
    const { pid } = await supervisor.start(config, () => undefined);
    await supervisor.stopAll();
    assert.ok(!isAlive(pid));
  },
);
