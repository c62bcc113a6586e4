import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { toHex, utf8 } from "../util/bytes.ts";
import { ManualClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import type { Change, Condition, Store } from "./port.ts";
import { batchChangesMax, keyLengthMax, scanBytesMax, valueBytesMax } from "./port.ts";

type Open = (clock: ManualClock) => Promise<Store>;

const put = (key: string, text: string, expiresAtMs: number | null = null): Change => ({
  type: "put",
  key,
  value: utf8(text),
  expiresAtMs,
});
const textOf = (bytes: Uint8Array | null): string | null =>
  bytes === null ? null : Buffer.from(bytes).toString();
const isMisuse = (error: unknown): boolean => error instanceof SkeinError && error.code === "internal_error";

/** What every store does. `open` makes an empty one. */
export function storeSuite(what: string, open: Open): void {
  async function withStore(use: (store: Store, clock: ManualClock) => Promise<void>): Promise<void> {
    const clock = new ManualClock();
    const store = await open(clock);
    try {
      await use(store, clock);
    } finally {
      await store.close();
    }
  }
  const keysOf = async (store: Store, scan: Parameters<Store["scan"]>[0]): Promise<string> =>
    (await store.scan(scan)).map(({ key }) => key).join(" ");

  test(`${what}: keeps, replaces and deletes`, () =>
    withStore(async (store) => {
      assert.equal(await store.get("a/1"), null);
      assert.equal(await store.commit({ changes: [put("a/1", "one"), put("a/2", "")] }), true);
      assert.equal(textOf(await store.get("a/1")), "one");
      assert.equal(textOf(await store.get("a/2")), "");
      await store.commit({ changes: [put("a/1", "uno"), { type: "delete", key: "a/2" }] });
      assert.equal(textOf(await store.get("a/1")), "uno");
      assert.equal(await store.get("a/2"), null);
      await store.commit({ changes: [put("a/1", "x"), put("a/10", "y"), put("b", "z")] });
      await store.commit({ changes: [{ type: "deletePrefix", prefix: "a/" }, put("a/3", "last")] });
      assert.equal(await keysOf(store, { prefix: "a", limit: 9 }), "a/3");
      assert.equal(textOf(await store.get("b")), "z");
    }));

  test(`${what}: scans in the order of keys, both ways, in pages`, () =>
    withStore(async (store) => {
      const names = ["a", "a/", "a/1", "a/10", "a/2", "a/~", "a0", "b"];
      await store.commit({ changes: names.toReversed().map((name) => put(name, name)) });
      assert.equal(await keysOf(store, { prefix: "a/", limit: 9 }), "a/ a/1 a/10 a/2 a/~");
      assert.equal(await keysOf(store, { prefix: "a/", limit: 2, after: "a/1" }), "a/10 a/2");
      assert.equal(await keysOf(store, { prefix: "a/", limit: 2, reverse: true }), "a/~ a/2");
      assert.equal(
        await keysOf(store, { prefix: "a/", limit: 9, after: "a/2", reverse: true }),
        "a/10 a/1 a/",
      );
      assert.equal(await keysOf(store, { prefix: "a/", limit: 9, after: "b" }), "");
      assert.equal(await keysOf(store, { prefix: "c", limit: 9 }), "");
    }));

  test(`${what}: a scan ends early rather than return too much`, () =>
    withStore(async (store) => {
      const value = new Uint8Array(valueBytesMax);
      const count = scanBytesMax / valueBytesMax + 1;
      for (let i = 0; i < count; i++) {
        await store.commit({ changes: [{ type: "put", key: `k${i}`, value, expiresAtMs: null }] });
      }
      assert.equal((await store.scan({ prefix: "k", limit: 100 })).length, count - 1);
      assert.equal((await store.scan({ prefix: "k", limit: 100, after: `k${count - 2}` })).length, 1);
    }));

  test(`${what}: a batch is written whole when its conditions hold, else not at all`, () =>
    withStore(async (store) => {
      const claim = (who: string, was: string | null): Promise<boolean> =>
        store.commit({
          changes: [put("job", who), put(`taken/${who}`, "")],
          conditions: [{ key: "job", value: was === null ? null : utf8(was) }],
        });
      const first = await Promise.all([claim("ann", null), claim("bob", null), claim("cid", null)]);
      assert.deepEqual(first, [true, false, false]);
      assert.equal(await claim("dan", "bob"), false);
      assert.equal(await claim("dan", "ann"), true);
      assert.equal(await keysOf(store, { prefix: "taken/", limit: 9 }), "taken/ann taken/dan");
    }));

  test(`${what}: what has expired is gone, and swept`, () =>
    withStore(async (store, clock) => {
      const soon = clock.nowMs() + 1000;
      await store.commit({ changes: [put("a", "1", soon), put("b", "2"), put("c", "3", soon + 1)] });
      clock.advance(999);
      assert.equal(await keysOf(store, { prefix: "a", limit: 9 }), "a");
      clock.advance(1);
      assert.equal(await store.get("a"), null);
      assert.equal(await keysOf(store, { prefix: "a", limit: 9 }), "");
      assert.equal(await store.commit({ changes: [], conditions: [{ key: "a", value: null }] }), true);
      assert.equal(await store.sweep(10), 1);
      clock.advance(1);
      assert.equal(await store.sweep(10), 1);
      assert.equal(await store.sweep(10), 0);
      assert.equal(textOf(await store.get("b")), "2");
    }));

  test(`${what}: values given and got are copies`, () =>
    withStore(async (store) => {
      const value = utf8("one");
      const written = store.commit({ changes: [{ type: "put", key: "a", value, expiresAtMs: null }] });
      await written;
      value[0] = 0;
      const got = await store.get("a");
      got![0] = 0;
      assert.equal(textOf(await store.get("a")), "one");
    }));

  test(`${what}: refuses what is beyond its limits`, () =>
    withStore(async (store) => {
      for (const key of ["", "ä", "a\n", "a".repeat(keyLengthMax + 1)]) {
        await assert.rejects(store.get(key), isMisuse);
        await assert.rejects(store.commit({ changes: [put(key, "")] }), isMisuse);
        await assert.rejects(store.scan({ prefix: key, limit: 1 }), isMisuse);
      }
      for (const limit of [0, -1, 1.5, 1e9])
        await assert.rejects(store.scan({ prefix: "a", limit }), isMisuse);
      const value = new Uint8Array(valueBytesMax + 1);
      await assert.rejects(
        store.commit({ changes: [{ type: "put", key: "a", value, expiresAtMs: null }] }),
        isMisuse,
      );
      const many = Array.from({ length: batchChangesMax + 1 }, () => put("a", ""));
      await assert.rejects(store.commit({ changes: many }), isMisuse);
      assert.equal(await store.get("a"), null);
    }));

  test(`${what}: a closed store says so`, async () => {
    const store = await open(new ManualClock());
    const last = store.commit({ changes: [put("a", "1")] });
    await store.close();
    assert.equal(await last, true);
    await store.close();
    const isClosed = (error: unknown): boolean =>
      error instanceof SkeinError && error.code === "store_failed";
    await assert.rejects(store.get("a"), isClosed);
    await assert.rejects(store.commit({ changes: [] }), isClosed);
    await assert.rejects(store.scan({ prefix: "a", limit: 1 }), isClosed);
    await assert.rejects(store.sweep(1), isClosed);
  });

  test(`${what}: does what a sorted map does, whatever it is told`, async () => {
    const key = fc.stringMatching(/^[ab~]{1,3}$/);
    const value = fc.uint8Array({ maxLength: 2 });
    const change: fc.Arbitrary<Change> = fc.oneof(
      fc.record({
        type: fc.constant("put" as const),
        key,
        value,
        expiresAtMs: fc.option(fc.integer({ min: 1_700_000_000_000, max: 1_700_000_000_020 })),
      }),
      fc.record({ type: fc.constant("delete" as const), key }),
      fc.record({ type: fc.constant("deletePrefix" as const), prefix: key }),
    );
    const condition: fc.Arbitrary<Condition> = fc.record({ key, value: fc.option(value) });
    const step = fc.record({
      advanceMs: fc.integer({ min: 0, max: 5 }),
      changes: fc.array(change, { maxLength: 4 }),
      conditions: fc.array(condition, { maxLength: 1 }),
      scan: fc.record({ prefix: key, limit: fc.integer({ min: 1, max: 4 }), reverse: fc.boolean() }),
      after: fc.option(key),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 15 }), async (steps) => {
        const clock = new ManualClock();
        const store = await open(clock);
        const model = new Map<string, { hex: string; expiresAtMs: number | null }>();
        const live = (name: string): string | null => {
          const kept = model.get(name);
          return kept === undefined || (kept.expiresAtMs ?? Infinity) <= clock.nowMs() ? null : kept.hex;
        };
        for (const { advanceMs, changes, conditions, scan, after } of steps) {
          clock.advance(advanceMs);
          const holds = conditions.every((c) => live(c.key) === (c.value === null ? null : toHex(c.value)));
          assert.equal(await store.commit({ changes, conditions }), holds);
          for (const c of holds ? changes : []) {
            if (c.type === "put") model.set(c.key, { hex: toHex(c.value), expiresAtMs: c.expiresAtMs });
            else if (c.type === "delete") model.delete(c.key);
            else for (const name of model.keys()) if (name.startsWith(c.prefix)) model.delete(name);
          }
          const expected = [...model.keys()]
            .filter((name) => name.startsWith(scan.prefix) && live(name) !== null)
            .filter((name) => after === null || (scan.reverse ? name < after : name > after))
            .toSorted();
          if (scan.reverse) expected.reverse();
          const found = await store.scan(after === null ? scan : { ...scan, after });
          assert.deepEqual(
            found.map((record) => [record.key, toHex(record.value)]),
            expected.slice(0, scan.limit).map((name) => [name, live(name)]),
          );
          for (const name of model.keys()) {
            const got = await store.get(name);
            assert.equal(got === null ? null : toHex(got), live(name));
          }
        }
        await store.close();
      }),
      { numRuns: what === "memory" ? 200 : 20 },
    );
  });
}
