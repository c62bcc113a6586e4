/** The engine's process from outside: load, back-pressure, cancelling, crashes, bad files. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { ManualClock } from "../../util/clock.ts";
import type { SkeinError } from "../../util/errors.ts";
import { ask, code, collect, nextStatus, until } from "../asking.suite.ts";
import { unreadEventsMax } from "../hosted/messages.ts";
import { openEngine, tinyModel } from "./fixture.suite.ts";

type LlamaEngine = Awaited<ReturnType<typeof openEngine>>;
const long = ask("Tell me a long story.", { prompt: { kind: "text", text: "a" }, outputTokensMax: 400 });
/** Draws from everything, so that the answer practically never ends by itself. */
const endless = { ...long, sampling: { ...long.sampling, temperature: 5, seed: 3 } };

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "skein-llama-"));
});
after(() => rm(folder, { recursive: true }));

async function withEngine(
  options: Parameters<typeof openEngine>[0],
  act: (engine: LlamaEngine) => Promise<void>,
): Promise<void> {
  const engine = await openEngine(options);
  try {
    await act(engine);
  } finally {
    await engine.close();
  }
}

test("requests beyond the slots wait, beyond the queue they are refused", async () => {
  await withEngine({ parallel: 1 }, async (engine) => {
    const abort = new AbortController();
    const all = Array.from({ length: 70 }, () => collect(engine, endless, abort.signal));
    const settled = Promise.allSettled(all);
    await until(() => engine.load().queued === 64, "a full queue");
    assert.equal(engine.load().active, 1);
    abort.abort();
    const codes = (await settled).map((result) =>
      result.status === "rejected" ? (result.reason as SkeinError).code : "answered",
    );
    assert.equal(codes.filter((each) => each === "overloaded").length, 5);
    assert.equal(codes.filter((each) => each === "cancelled").length, 65);
    assert.deepEqual(engine.load(), { active: 0, queued: 0 });
    assert.equal((await collect(engine, ask("What is 1 + 1?"))).end.finishReason, "stop");
  });
});

test("leaving the loop and aborting free the slot, even when nobody reads", async () => {
  await withEngine({ parallel: 1 }, async (engine) => {
    for await (const event of engine.generate(endless, new AbortController().signal)) {
      if (event.type === "tokens") break;
    }
    assert.equal(engine.load().active, 0);
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

test("a killed process fails what runs, comes back by itself and works", async () => {
  await withEngine({}, async (engine) => {
    const broken = collect(engine, endless);
    const failed = assert.rejects(
      broken,
      (error) => code("engine_failed")(error) && /SIGKILL/.test(String(error)),
    );
    await until(() => engine.load().active === 1, "a running request");
    await sleep(50);
    const restarting = nextStatus(engine, "restarting");
    const ready = nextStatus(engine, "ready");
    process.kill(engine.processId()!, "SIGKILL");
    await failed;
    await restarting;
    await assert.rejects(collect(engine, ask("What is 1 + 1?")), code("engine_unavailable"));
    await assert.rejects(
      engine.countPromptTokens({ kind: "text", text: "a" }, AbortSignal.timeout(1000)),
      code("engine_unavailable"),
    );
    await ready;
    assert.match((await collect(engine, ask("What is 1 + 1?"))).text, /2/);
    assert.deepEqual(engine.load(), { active: 0, queued: 0 });
  });
});

test("a process that hangs is noticed, killed and replaced", async () => {
  const clock = new ManualClock();
  const engine = await openEngine({}, clock);
  try {
    const hanging = collect(engine, endless);
    const failed = assert.rejects(hanging, code("engine_failed"));
    await until(() => engine.load().active === 1, "a running request");
    process.kill(engine.processId()!, "SIGSTOP");
    // What was under way still arrives; then nothing more does.
    await sleep(200);
    for (let i = 0; i < 30; i++) clock.advance(5_000);
    await failed;
    const ready = nextStatus(engine, "ready");
    clock.advance(1_000);
    await ready;
    await collect(engine, ask("What is 1 + 1?"));
  } finally {
    await engine.close();
  }
});

test("closing fails what runs and what waits, and ends the process", async () => {
  const engine = await openEngine({ parallel: 1 });
  const pid = engine.processId()!;
  const running = [collect(engine, endless), collect(engine, endless)];
  const settled = Promise.allSettled(running);
  await until(() => engine.load().queued === 1, "one runs, one waits");
  await engine.close();
  await engine.close();
  for (const result of await settled) {
    assert.ok(
      result.status === "rejected" && code("engine_unavailable")(result.reason),
      JSON.stringify(result),
    );
  }
  assert.throws(() => process.kill(pid, 0));
  await assert.rejects(collect(engine, endless), code("engine_unavailable"));
});

test("the process ends when its parent disappears, in the middle of work too", async () => {
  const script = `
    const { openEngine } = await import(${JSON.stringify(fileURLToPath(new URL("./fixture.suite.ts", import.meta.url)))});
    const { ask } = await import(${JSON.stringify(fileURLToPath(new URL("../asking.suite.ts", import.meta.url)))});
    const engine = await openEngine();
    console.log(engine.processId());
    const request = ask("", { prompt: { kind: "text", text: "a" }, sampling: { ...ask("").sampling, temperature: 5 } });
    for (;;) for await (const _ of engine.generate(request, new AbortController().signal));`;
  const parent = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", script],
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  const [line] = (await once(parent.stdout, "data")) as [Buffer];
  const pid = Number(line.toString());
  await sleep(100);
  process.kill(pid, 0);
  parent.kill("SIGKILL");
  await until(() => {
    try {
      process.kill(pid, 0);
      return false;
    } catch {
      return true;
    }
  }, "the engine's process to end");
});

test("files that are no models are refused with a reason", async () => {
  const whole = await readFile(tinyModel);
  const cases = {
    "truncated.gguf": whole.subarray(0, whole.length - 100_000),
    "header.gguf": whole.subarray(0, 5000),
    "text.gguf": Buffer.from("this is not a model"),
    "empty.gguf": Buffer.alloc(0),
    "architecture.gguf": Buffer.from(whole.toString("latin1").replaceAll("llama", "lxxma"), "latin1"),
  };
  for (const [name, content] of Object.entries(cases)) {
    await writeFile(join(folder, name), content);
    await assert.rejects(openEngine({ modelPath: join(folder, name) }), code("invalid_model_file"), name);
  }
  for (const modelPath of [folder, join(folder, "missing.gguf")]) {
    await assert.rejects(openEngine({ modelPath }), code("invalid_model_file"), modelPath);
  }
  await assert.rejects(openEngine({ moduleFolder: folder }), code("engine_not_installed"));
});

test("a file that vanishes leaves the engine restarting, not the program dead", async () => {
  const modelPath = join(folder, "copy.gguf");
  await writeFile(modelPath, await readFile(tinyModel));
  await withEngine({ modelPath }, async (engine) => {
    await (await open(modelPath, "w")).close();
    const restarting = nextStatus(engine, "restarting");
    process.kill(engine.processId()!, "SIGKILL");
    await restarting;
    await nextStatus(engine, "restarting");
    await writeFile(modelPath, await readFile(tinyModel));
    await nextStatus(engine, "ready");
    await collect(engine, ask("What is 1 + 1?"));
  });
});
