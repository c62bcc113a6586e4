/** The exact engine as a user meets it: in the network, through the death of a provider, and on the command line. */
import assert from "node:assert/strict";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";
import type { ProviderView } from "../../src/protocol/gateway-api.ts";
import { localNetwork } from "./local-network.ts";
import { providersOf } from "./pool.ts";
import { eventually, type Running, skein, skeinToEnd, stop, temporaryHome, tinyModel } from "./processes.ts";

let openai: OpenAI;
const network = localNetwork({}, ({ url }) => {
  openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
});
const { home } = network;

async function availableOf(model: string): Promise<ProviderView[]> {
  return (await providersOf(network.url, model)).filter(({ state }) => state === "available");
}

async function startProvider(...more: string[]): Promise<Running & { id: string }> {
  const args = ["--engine", "exact", "--model", tinyModel, "--join", network.url, "--json", ...more];
  const running = skein(home.path, "provide", ...args);
  const [, id] = await running.printed(/"type":"ready".*"id":"([^"]+)"/);
  return { ...running, id: id! };
}

/** Hot, so that it is long and every token of it is a matter of chance. */
const request = {
  model: "tiny-exact",
  prompt: "Once upon a time",
  temperature: 2,
  max_tokens: 450,
} as const;

interface Served {
  readonly text: string;
  readonly attempts: number;
  readonly provider: string;
}

async function streamed(
  seed: number,
  onText: (text: string) => Promise<void> = async () => {},
): Promise<Served> {
  let text = "";
  let facts: { attempts: number; provider: string } | undefined;
  const stream = await openai.completions.create({ ...request, seed, stream: true });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.text ?? "";
    facts = (chunk as unknown as { skein?: typeof facts }).skein ?? facts;
    await onText(text);
  }
  return { text, attempts: facts!.attempts, provider: facts!.provider };
}

test("a provider that is killed in the middle of an answer is not missed, to the byte", async () => {
  // 1. Two providers of one model, converted by whoever comes first; an answer that nobody disturbs.
  const both = await Promise.all([startProvider(), startProvider()]);
  await eventually("both serve", async () => ((await availableOf("tiny-exact")).length === 2 ? true : null));
  assert.equal(readdirSync(join(home.path, "exact")).length, 1);
  let seed = 1;
  let undisturbed = await streamed(seed);
  while (undisturbed.text.length < 600 && seed < 50) undisturbed = await streamed(++seed);
  assert.ok(undisturbed.text.length >= 600, "no seed gives a long answer");
  assert.equal(undisturbed.attempts, 1);
  // 2. The same, and whoever generates it dies.
  let killed: string | undefined;
  const disturbed = await streamed(seed, async (text) => {
    if (killed !== undefined || text.length < 20) return;
    const busy = (await availableOf("tiny-exact")).find(({ active }) => active > 0);
    const victim = both.find(({ id }) => id === busy?.id);
    killed = victim?.id;
    victim?.child.kill("SIGKILL");
  });
  assert.ok(killed !== undefined, "the answer ended before anybody could be killed");
  assert.equal(disturbed.text, undisturbed.text);
  assert.equal(disturbed.attempts, 2);
  assert.notEqual(disturbed.provider, killed);
  // 3. The survivor alone, and with many others at once, gives the same.
  const again = await Promise.all([seed, seed + 1, seed + 2, seed].map((each) => streamed(each)));
  assert.equal(again[0]!.text, undisturbed.text);
  assert.equal(again[3]!.text, undisturbed.text);
  for (const running of both) if (running.id !== killed) await stop(running);
});

test("several choices at once, streamed, lose their provider: each goes on to the byte", async () => {
  const both = await Promise.all([startProvider(), startProvider()]);
  await eventually("both serve", async () => ((await availableOf("tiny-exact")).length === 2 ? true : null));
  const ask = async (onText: (chars: number) => Promise<void> = async () => {}): Promise<string[]> => {
    const texts: string[] = [];
    const stream = await openai.completions.create({
      ...request,
      seed: 21,
      n: 4,
      stop: ["zq"],
      stream: true,
    });
    for await (const chunk of stream) {
      for (const { index, text } of chunk.choices) texts[index] = (texts[index] ?? "") + text;
      await onText(texts.join("").length);
    }
    return texts;
  };
  const undisturbed = await ask();
  let killed: string | undefined;
  const disturbed = await ask(async (chars) => {
    if (killed !== undefined || chars < 80) return;
    const busy = (await availableOf("tiny-exact")).find(({ active }) => active > 0);
    const victim = both.find(({ id }) => id === busy?.id);
    killed = victim?.id;
    victim?.child.kill("SIGKILL");
  });
  assert.ok(killed !== undefined, "the answer ended before anybody could be killed");
  assert.deepEqual(disturbed, undisturbed);
  for (const running of both) if (running.id !== killed) await stop(running);
});

test("what is offered says what it is", async () => {
  const provider = await startProvider("--name", "mine", "--parallel", "2", "--context", "128");
  await eventually("it serves", async () => ((await availableOf("mine")).length === 1 ? true : null));
  const response = await fetch(`${network.url}/v1/models/mine`);
  const { skein: facts } = (await response.json()) as {
    skein: { engines: string[]; trust_tiers: string[]; context_tokens_max: number; model_ids: string[] };
  };
  assert.deepEqual(facts.engines, ["exact"]);
  assert.deepEqual(facts.trust_tiers, ["exact"]);
  assert.equal(facts.context_tokens_max, 128);
  assert.match(facts.model_ids[0]!, /^exact-sha256:[0-9a-f]{64}$/);
  const long = { model: "mine", prompt: "moo ".repeat(200), max_tokens: 1 };
  await assert.rejects(openai.completions.create(long), /context is 128 tokens/);
  await stop(provider);
});

/** Runs `skein exact …` to its end. */
function exact(...args: string[]): Promise<{ code: number | null; output: string }> {
  return skeinToEnd(home.path, "exact", ...args);
}

/** The result among lines of progress. */
function jsonIn(output: string): Record<string, unknown> {
  return JSON.parse(output.slice(output.indexOf("{"), output.lastIndexOf("}") + 1)) as Record<
    string,
    unknown
  >;
}

test("convert, inspect, run and check", async () => {
  const model = join(home.path, "model.gguf");
  const converted = join(home.path, "model.skein");
  copyFileSync(tinyModel, model);
  // 1. Beside the model, once.
  const first = await exact("convert", model, "--json");
  assert.equal(first.code, 0, first.output);
  const { file, model_id: modelId, bytes } = jsonIn(first.output);
  assert.equal(file, converted);
  assert.equal(readFileSync(converted).length, bytes);
  const again = await exact("convert", model);
  assert.equal(again.code, 2);
  assert.match(again.output, /exists[^]*--force/);
  assert.equal((await exact("convert", model, converted, "--force")).code, 0);
  // 2. What is in it.
  assert.match((await exact("inspect", converted)).output, new RegExp(`${String(modelId)}[^]*5,246,208`));
  const facts = jsonIn((await exact("inspect", converted, "--json")).output);
  assert.equal(facts["model_id"], modelId);
  assert.equal((facts["shape"] as { layers: number }).layers, 6);
  assert.equal((facts["tokenizer"] as { tokens: number }).tokens, 2048);
  // 3. An answer, the same from both files.
  const asking = ["What sound does a cow make?", "--temperature", "1", "--seed", "7", "--commit"];
  const answers = await Promise.all([
    exact("run", converted, ...asking, "--json"),
    exact("run", model, ...asking, "--json"),
    exact("run", converted, ...asking),
  ]);
  const [a, b] = answers.slice(0, 2).map(({ output }) => jsonIn(output));
  const told = answers[2].output;
  assert.match(a!["text"] as string, /moo/i);
  assert.match(a!["execution_root"] as string, /^[0-9a-f]{64}$/);
  assert.equal(a!["text"], b!["text"]);
  assert.equal(a!["execution_root"], b!["execution_root"]);
  assert.ok(told.includes(a!["text"] as string));
  assert.ok(told.includes(a!["execution_root"] as string));
  assert.match(told, /tokens\/s/);
  const narrowed = [
    "--top-k",
    "40",
    "--min-p",
    "0.01",
    "--presence-penalty",
    "0.5",
    "--frequency-penalty",
    "0.1",
  ];
  const [stopped, forced] = await Promise.all([
    exact(
      "run",
      model,
      ...asking,
      ...narrowed,
      "--stop",
      "oo",
      "--stop",
      ",",
      "--bits",
      "4",
      "--threads",
      "2",
      "--json",
    ),
    exact(
      "run",
      converted,
      "hi",
      "--logit-bias",
      "300=100",
      "--logit-bias",
      "301=-1.5",
      "--max-tokens",
      "5",
      "--json",
    ),
  ]);
  assert.equal(stopped.code, 0, stopped.output);
  assert.doesNotMatch(jsonIn(stopped.output)["text"] as string, /oo|,/);
  assert.notEqual(jsonIn(stopped.output)["model_id"], modelId, "four bits are another model");
  const { text: repeated } = jsonIn(forced.output) as { text: string };
  assert.equal(repeated, repeated.slice(0, repeated.length / 5).repeat(5));
  for (const [args, reason] of [
    [["run", converted, "hi", "--bits", "4"], /converted already[^]*--bits/],
    [["check", converted, "--bits", "8"], /converted already[^]*--bits/],
    [["run", converted, "hi", "--logit-bias", "4000000=1"], /4000000[^]*vocabulary of 2048/],
    [["run", converted, "hi", "--logit-bias", "the=1"], /token id/],
  ] as const) {
    const { code, output } = await exact(...args);
    assert.notEqual(code, 0);
    assert.match(output, reason);
  }
  const otherEngine = ["--model", model, "--bits", "4", "--join", network.url];
  assert.match(
    (await skeinToEnd(home.path, "provide", ...otherEngine)).output,
    /--bits is for the exact engine/,
  );
  // 4. The machine.
  const checked = await exact("check", converted, "--tokens", "9", "--threads", "2", "--json");
  assert.equal(checked.code, 0, checked.output);
  const comparison = jsonIn(checked.output);
  assert.equal(comparison["is_identical"], true);
  assert.equal(comparison["positions_compared"], 9);
  assert.match((await exact("check", converted)).output, /agree in every bit/);
});

test("files that are no models end with code 1 and a reason, and leave nothing behind", async () => {
  const folder = temporaryHome();
  const whole = readFileSync(tinyModel);
  const good = join(folder.path, "good.skein");
  await exact("convert", tinyModel, good);
  const container = readFileSync(good);
  const damaged = Buffer.from(container);
  damaged[container.length - 1000]! ^= 1;
  const renamed = Buffer.from(whole.toString("latin1").replaceAll("llama", "gemma"), "latin1");
  const cases: [string, Uint8Array, RegExp, ...string[]][] = [
    ["short.gguf", whole.subarray(0, whole.length - 5000), /error: .*short\.gguf/, "convert"],
    ["text.gguf", Buffer.from("no model"), /neither a GGUF file nor a converted model/, "convert"],
    ["other.gguf", renamed, /gemma/, "convert"],
    ["short.skein", container.subarray(0, 99_999), /bytes instead of|header/, "inspect"],
    ["text.skein", Buffer.from("this is no model"), /not a converted model/, "inspect"],
    ["damaged.skein", damaged, /is damaged.*hash/, "check"],
    ["damaged.skein", damaged, /is damaged.*hash/, "run"],
  ];
  for (const [name, content] of cases) writeFileSync(join(folder.path, name), content);
  const entries = readdirSync(folder.path).toSorted();
  await Promise.all(
    cases.map(async ([name, , reason, command]) => {
      const rest = { run: ["hello"], convert: [join(folder.path, `${name}.out`)] }[command!] ?? [];
      const { code, output } = await exact(command!, join(folder.path, name), ...rest);
      assert.equal(code, 1, `${command} ${name}: ${output}`);
      assert.match(output, reason);
      assert.doesNotMatch(output, /\n\s+at /, "no stack trace");
    }),
  );
  assert.deepEqual(readdirSync(folder.path).toSorted(), entries);
  const damagedModel = join(folder.path, "damaged.skein");
  const { code, output } = await skeinToEnd(
    home.path,
    "provide",
    "--model",
    damagedModel,
    "--join",
    network.url,
  );
  assert.equal(code, 1);
  assert.match(output, /is damaged/);
  folder.remove();
});

test("a converted model that was damaged in the cache is made again", async () => {
  const folder = join(home.path, "exact");
  const name = readdirSync(folder).find((each) => each.startsWith("tiny-"));
  const bytes = readFileSync(join(folder, name!));
  const damaged = Buffer.from(bytes);
  damaged[bytes.length - 1000]! ^= 1;
  writeFileSync(join(folder, name!), damaged);
  const provider = await startProvider("--name", "mended");
  await eventually("it serves", async () => ((await availableOf("mended")).length === 1 ? true : null));
  assert.deepEqual(readFileSync(join(folder, name!)), bytes);
  await stop(provider);
});

test(
  "Ctrl-C ends a conversion and leaves nothing behind",
  { skip: process.platform === "win32" },
  async () => {
    const folder = temporaryHome();
    const running = skein(home.path, "exact", "convert", tinyModel, join(folder.path, "out.skein"));
    await eventually("it writes", async () => (readdirSync(folder.path).length > 0 ? true : null));
    running.child.kill("SIGINT");
    const { code } = await running.exited();
    await sleep(50);
    // It may have been quicker.
    if (code !== 0) assert.deepEqual(readdirSync(folder.path), []);
    else assert.deepEqual(readdirSync(folder.path), ["out.skein"]);
    folder.remove();
  },
);
