/**
 * What guessing ahead brings: the exact engine with prompt lookup, and with a draft model besides, beside the same engine without. CPU time of
 * a token of one answer at a time, in chat, in code that is written out again, and in lists; and with eight chats at once, where guessing
 * ends by itself. The answers are the same, which is checked.
 *
 *   npm run bench -- exact-speculation [--quick]
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import Table from "cli-table3";
import { convertFile } from "../src/engine/exact/convert.ts";
import { loadModel, type LoadedModel } from "../src/engine/exact/load.ts";
import { Service } from "../src/engine/exact/service.ts";
import type { ExactLoadOptions } from "../src/engine/exact/messages.ts";
import type { FromHost } from "../src/engine/hosted/messages.ts";
import { type GenerateRequest, greedySampling } from "../src/protocol/generate.ts";
import { type Mark, markNow } from "./lib/mark.ts";
import { median } from "./lib/streams.ts";

const quick = process.argv.includes("--quick");
const runs = quick ? 3 : 9;
const models = join(dirname(dirname(fileURLToPath(import.meta.url))), "models");

const story = (i: number): string => `Tell me a story about a ${["fox", "goose", "cow", "frog"][i % 4]}.`;
const code = [
  "for (let i = 0; i < count; i++) {",
  "  const value = values[i];",
  "  if (value > limit) total += value;",
  "  else rest.push(value);",
  "}",
].join("\n");
const list = Array.from({ length: 12 }, (_, i) => `item ${i % 3}: red, blue, green;`).join(" ");

interface Text {
  readonly name: string;
  readonly requests: (run: number) => GenerateRequest[];
}

const texts: readonly Text[] = [
  { name: "chat", requests: (run) => [chat(story(run), 0, run)] },
  { name: "warmChat", requests: (run) => [chat(story(run), 1, run)] },
  { name: "code", requests: (run) => [plain(`${code}\n\n${code}\n\n${code.slice(0, 60)}`, run)] },
  { name: "list", requests: (run) => [plain(list, run)] },
  {
    name: "eightChats",
    requests: (run) => Array.from({ length: 8 }, (_, i) => chat(story(i), 1, 8 * run + i)),
  },
];

function chat(content: string, temperature: number, seed: number): GenerateRequest {
  return { ...plain("", seed, temperature), prompt: { kind: "chat", messages: [{ role: "user", content }] } };
}

function plain(text: string, seed: number, temperature = 0): GenerateRequest {
  return {
    requestId: "bench",
    modelId: "bench",
    prompt: { kind: "text", text },
    emitted: { tokenIds: [], text: "" },
    sampling: { ...greedySampling, temperature, seed },
    stop: [],
    constraint: null,
    logprobs: null,
    outputTokensMax: 120,
    timeoutMs: 600_000,
    // Nothing is found in the cache of an earlier run.
    cacheSalt: `${seed} ${performance.now()}`,
  };
}

interface Side {
  readonly service: Service;
  listener: (message: FromHost) => void;
}

async function openSide(options: ExactLoadOptions, guesses: boolean): Promise<Side> {
  const loaded: LoadedModel = { ...(await loadModel(options, () => undefined)), guesses };
  const side: Side = {
    service: new Service(loaded, (message) => side.listener(message)),
    listener: () => undefined,
  };
  return side;
}

type SideName = "plain" | "lookup" | "draft";

/** Each begins once in three rounds. */
function orderOf(run: number): SideName[] {
  const names: SideName[] = ["plain", "lookup", "draft"];
  return names.map((_, i) => names[(i + run + 3) % 3]!);
}

/** CPU milliseconds per token behind each answer's first ones, and the answers. */
async function measure(side: Side, requests: readonly GenerateRequest[]) {
  const answers = requests.map((): number[] => []);
  let first: Mark | null = null;
  let before = 0;
  await new Promise<void>((resolve, reject) => {
    let open = requests.length;
    side.listener = (message) => {
      if (message.type === "failed") reject(new Error(message.error.message));
      if (message.type !== "step") return;
      for (const [id, event] of message.events) {
        if (event.type === "end") open -= 1;
        if (event.type !== "tokens") continue;
        answers[id]!.push(...event.tokenIds);
        side.service.receive({ type: "read", id, events: 1 });
      }
      if (first === null && answers.every((answer) => answer.length > 0)) {
        first = markNow();
        before = answers.flat().length;
      }
      if (open === 0) resolve();
    };
    for (const [id, request] of requests.entries()) side.service.receive({ type: "generate", id, request });
  });
  const tokens = answers.flat().length - before;
  return { answers, tokenMs: (markNow().cpuMs - first!.cpuMs) / Math.max(1, tokens) };
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "skein-bench-"));
  try {
    const [modelPath, draftPath] = [join(folder, "tiny.skein"), join(folder, "draft.skein")];
    const { signal } = new AbortController();
    await convertFile(join(models, "tiny.Q8_0.gguf"), modelPath, { signal });
    await convertFile(join(models, "draft.F16.gguf"), draftPath, { signal });
    const load = { modelPath, modelId: null, parallel: 8, contextTokens: null, threads: 1 };
    const sides = {
      plain: await openSide(load, false),
      lookup: await openSide(load, true),
      draft: await openSide({ ...load, draftPath }, true),
    } as const;
    const figures: Record<string, number> = {};
    const table = new Table({
      style: { head: [], border: [] },
      head: ["CPU ms per token (medians)", "plain", "with lookup", "and draft model", "speed-ups"],
    });
    for (const { name, requests } of texts) {
      const times = { plain: [] as number[], lookup: [] as number[], draft: [] as number[] };
      for (let run = -1; run < runs; run++) {
        const asked = requests(run + 1);
        let expected: readonly (readonly number[])[] | null = null;
        for (const side of orderOf(run)) {
          const { answers, tokenMs } = await measure(sides[side], asked);
          expected ??= answers;
          assert.ok(
            JSON.stringify(answers) === JSON.stringify(expected),
            `${name}: other answers with ${side}`,
          );
          if (run >= 0) times[side].push(tokenMs);
        }
      }
      const ratios = (["lookup", "draft"] as const).map((side) =>
        median(times[side].map((ms, i) => times.plain[i]! / ms)),
      );
      figures[`${name}LookupSpeedUp`] = Number(ratios[0]!.toFixed(3));
      figures[`${name}DraftSpeedUp`] = Number(ratios[1]!.toFixed(3));
      const shown = [times.plain, times.lookup, times.draft].map((own) => median(own).toFixed(3));
      table.push([name, ...shown, ratios.map((ratio) => ratio.toFixed(2)).join(", ")]);
    }
    console.log(table.toString());
    console.log(JSON.stringify({ bench: "exact-speculation", runs, ...figures }));
  } finally {
    await rm(folder, { recursive: true });
  }
}

await main();
