import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { drawn, pour, type Sink } from "./sink.ts";

/** Tells numbers as long as there is room. */
async function count(to: number, tell: Sink<number>, seen: { told: number }): Promise<string> {
  for (let i = 0; i < to; i++) {
    seen.told = i + 1;
    await tell(i);
  }
  return "done";
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("an iteration over what is told", () => {
  test("has everything in order, and the result", async () => {
    const anyPauses = fc.array(fc.boolean(), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(anyPauses, fc.boolean(), async (pauses, isAtOnce) => {
        const items = drawn(async (tell: Sink<number>) => {
          for (const i of pauses.keys()) {
            const room = tell(i);
            // Who has several things at once need not wait between them.
            if (!isAtOnce) await room;
            if (pauses[i]!) await turn();
          }
          return "done";
        });
        const got: number[] = [];
        let step = await items.next();
        for (; step.done !== true; step = await items.next()) got.push(step.value);
        assert.deepEqual([got, step.value], [[...pauses.keys()], "done"]);
      }),
    );
  });

  test("leaves no room for more before the next one is asked for", async () => {
    const seen = { told: 0 };
    const items = drawn((tell: Sink<number>) => count(10, tell, seen));
    await items.next();
    await turn();
    assert.equal(seen.told, 1);
    await items.next();
    await turn();
    assert.equal(seen.told, 2);
    await items.return("left");
  });

  test("that is left ends who tells; one that is not begun starts nothing", async () => {
    const ended: string[] = [];
    const run = async (tell: Sink<number>, signal: AbortSignal): Promise<string> => {
      for (let i = 0; !signal.aborted; i++) await tell(i);
      ended.push("told");
      return "";
    };
    for await (const item of drawn(run)) if (item === 3) break;
    assert.deepEqual(ended, ["told"]);
    await drawn(run).return("");
    assert.deepEqual(ended, ["told"]);
  });

  test("fails as what it is made of, behind what was told", async () => {
    const items = drawn(async (tell: Sink<number>) => {
      await tell(1);
      throw new Error("lost");
    });
    assert.equal((await items.next()).value, 1);
    await assert.rejects(items.next(), /lost/);
  });
});

test("an iteration is poured no faster than there is room", async () => {
  let made = 0;
  async function* numbers(): AsyncGenerator<number> {
    for (; made < 10;) yield made++;
  }
  const full = Promise.withResolvers<void>();
  const poured = pour(numbers(), (item) => (item === 4 ? full.promise : undefined));
  await turn();
  assert.equal(made, 5);
  full.resolve();
  await poured;
  assert.equal(made, 10);
  await assert.rejects(
    pour(numbers(), () => undefined).then(() => pour([1], () => Promise.reject(new Error("no")))),
    /no/,
  );
});
