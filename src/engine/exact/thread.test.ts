/** The engine's thread from outside: back-pressure, crashes, bad files. */
import assert from "node:assert/strict";
import { mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ask, code, collect, nextStatus, until } from "../asking.suite.ts";
import { unreadEventsMax } from "../hosted/messages.ts";
import { openEngine, tinyGguf, tinySkein } from "./fixture.suite.ts";

type ExactEngine = Awaited<ReturnType<typeof openEngine>>;
const long = ask("", { prompt: { kind: "text", text: "a" }, outputTokensMax: 400 });
/** Draws from everything, so that the answer practically never ends by itself. */
const endless = { ...long, sampling: { ...long.sampling, temperature: 100, seed: 4 } };

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "skein-exact-"));
});
after(() => rm(folder, { recursive: true }));

async function withEngine(
  options: Parameters<typeof openEngine>[0],
  act: (engine: ExactEngine) => Promise<void>,
): Promise<void> {
  const engine = await openEngine(options);
  try {
    await act(engine);
  } finally {
    await engine.close();
  }
}

test("leaving the loop and aborting free the slot, even when nobody reads", async () => {
  await withEngine({ parallel: 1 }, async (engine) => {
    const abort = new AbortController();
    const unread = engine.generate(endless, abort.signal)[Symbol.asyncIterator]();
    await unread.next();
    assert.equal(engine.load().active, 1);
    abort.abort();
    assert.equal(engine.load().active, 0);
    await collect(engine, ask("What is 1 + 1?"));
    await assert.rejects(async () => {
      while ((await unread.next()).done !== true);
    }, code("cancelled"));
  });
});

test("who does not read is paused and holds up nobody; later everything comes", async () => {
  await withEngine({ parallel: 2 }, async (engine) => {
    const slow = engine.generate(endless, AbortSignal.timeout(60_000))[Symbol.asyncIterator]();
    await slow.next();
    for (let i = 0; i < 10; i++) await collect(engine, { ...endless, outputTokensMax: 60 });
    let tokens = 0;
    for (;;) {
      const { value, done } = await slow.next();
      if (done === true) break;
      if (value.type === "tokens") tokens += value.tokenCount;
      if (value.type === "end") assert.equal(value.outputTokens, tokens);
    }
    assert.ok(tokens > unreadEventsMax, `${tokens} tokens are more than may wait unread`);
  });
});

test("a thread that ends fails what runs, comes back by itself and gives the same answers", async () => {
  await withEngine({}, async (engine) => {
    const whole = await collect(engine, endless);
    const { model } = engine;
    const failed = assert.rejects(collect(engine, endless), code("engine_failed"));
    await until(() => engine.load().active === 1, "a running request");
    const restarting = nextStatus(engine, "restarting");
    const ready = nextStatus(engine, "ready");
    engine.kill();
    await failed;
    await restarting;
    await assert.rejects(collect(engine, endless), code("engine_unavailable"));
    await assert.rejects(
      engine.countPromptTokens({ kind: "text", text: "a" }, AbortSignal.timeout(1000)),
      code("engine_unavailable"),
    );
    await ready;
    assert.equal((await collect(engine, endless)).text, whole.text);
    assert.deepEqual(engine.model, model);
    assert.deepEqual(engine.load(), { active: 0, queued: 0 });
  });
});

test("a file that vanishes or becomes another model leaves the engine restarting, not the program dead", async () => {
  const modelPath = join(folder, "copy.skein");
  const whole = await readFile(await tinySkein());
  await writeFile(modelPath, whole);
  await withEngine({ modelPath }, async (engine) => {
    await (await open(modelPath, "w")).close();
    const restarting = nextStatus(engine, "restarting");
    engine.kill();
    await restarting;
    await nextStatus(engine, "restarting");
    await writeFile(modelPath, whole);
    await nextStatus(engine, "ready");
    await collect(engine, ask("What is 1 + 1?"));
  });
});

test("files that are no converted models are refused with a reason", async () => {
  const whole = await readFile(await tinySkein());
  const damaged = Buffer.from(whole);
  damaged[whole.length - 100_000]! ^= 1;
  const cases: Record<string, readonly [Uint8Array, RegExp]> = {
    "short.skein": [whole.subarray(0, whole.length - 100_000), /bytes instead of/],
    "header.skein": [whole.subarray(0, 5000), /header/],
    "text.skein": [Buffer.from("this is not a model"), /not a converted model/],
    "empty.skein": [Buffer.alloc(0), /too short/],
    "damaged.skein": [damaged, /is damaged: .* not what its hash says/],
  };
  for (const [name, [content, reason]] of Object.entries(cases)) {
    const modelPath = join(folder, name);
    await writeFile(modelPath, content);
    await assert.rejects(
      openEngine({ modelPath }),
      (error) => code("invalid_model_file")(error) && reason.test(String(error)),
      name,
    );
  }
  for (const modelPath of [folder, join(folder, "missing.skein"), tinyGguf]) {
    await assert.rejects(openEngine({ modelPath }), code("invalid_model_file"), modelPath);
  }
});

test("what does not fit in memory is refused before it is tried", async () => {
  await assert.rejects(openEngine({ parallel: 100_000, contextTokens: 512 }), code("engine_unavailable"));
});
