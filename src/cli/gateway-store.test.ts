import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { MemoryStore } from "../store/memory.ts";
import { ManualClock, systemClock } from "../util/clock.ts";
import { silentLogger } from "../util/log.ts";
import { keepSwept, openGatewayStore } from "./gateway-store.ts";

test("expired records go away by themselves, until the store is closed", async () => {
  const clock = new ManualClock();
  const store = new MemoryStore(clock);
  const left = async (): Promise<number> => {
    await new Promise((resolve) => setImmediate(resolve));
    const count = await store.sweep(1_000);
    return count;
  };
  const put = (expiresAtMs: number): Promise<boolean> =>
    store.commit({ changes: [{ type: "put", key: "a", value: new Uint8Array(1), expiresAtMs }] });
  const stop = keepSwept({ clock, log: silentLogger }, store);
  await put(clock.nowMs() + 10_000);
  clock.advance(29_999);
  assert.equal(await left(), 1, "not yet swept");
  await put(clock.nowMs());
  clock.advance(1);
  assert.equal(await left(), 0, "swept");
  stop();
  await put(clock.nowMs());
  clock.advance(60_000);
  assert.equal(await left(), 1, "nobody sweeps any more");
});

test("the file is its owner's alone, nobody else's meanwhile, and another start finds what was written", async () => {
  const folder = mkdtempSync(join(tmpdir(), "skein-store-"));
  const path = join(folder, "gateway.db");
  const deps = { clock: systemClock, log: silentLogger };
  try {
    const first = await openGatewayStore(deps, path);
    await first.commit({ changes: [{ type: "put", key: "a", value: Uint8Array.of(7), expiresAtMs: null }] });
    await assert.rejects(openGatewayStore(deps, path), {
      code: "store_failed",
      message: /Another process of Skein uses .*gateway\.db/,
    });
    await first.close();
    if (process.platform !== "win32") assert.equal(statSync(path).mode & 0o777, 0o600);
    const second = await openGatewayStore(deps, path);
    assert.deepEqual(await second.get("a"), Uint8Array.of(7));
    await second.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
