import { text as readAll } from "node:stream/consumers";
import { resolve } from "node:path";
import type { Command } from "commander";
import { withConverted } from "../../../engine/exact/convert.ts";
import { loadModel } from "../../../engine/exact/load.ts";
import { answerAlone } from "../../../engine/exact/solo.ts";
import { sha256 } from "../../../engine/sha256.ts";
import { CommitmentRecorder } from "../../../exact/commitment/recorder.ts";
import {
  type GenerateEvent,
  type GenerateRequest,
  greedySampling,
  type Prompt,
  type TokenBias,
} from "../../../protocol/generate.ts";
import { toHex } from "../../../util/bytes.ts";
import { SkeinError } from "../../../util/errors.ts";
import { printable, printableJson } from "../../../util/printable.ts";
import { contextOf } from "../../context.ts";
import { exitWhenStopped } from "../../foreground.ts";
import { createProgress } from "../../progress.ts";
import { exactCacheFolder, threadsOf } from "../../provider-config.ts";
import { quantizationOption } from "../../quantization.ts";
import { styled } from "../../terminal.ts";

interface RunFlags {
  readonly system?: string;
  readonly raw?: boolean;
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly logitBias?: readonly TokenBias[];
  readonly stop?: readonly string[];
  readonly seed?: number;
  readonly maxTokens?: number;
  readonly commit?: boolean;
  readonly json?: boolean;
}

const memoryHint = "Use a smaller --context, a smaller model, or convert it with --bits 4.";

/** `skein exact run`: an answer on this machine alone, without a network. */
export async function run(file: string, words: string[], command: Command): Promise<void> {
  const context = contextOf(command);
  const flags = context.flags as RunFlags;
  exitWhenStopped();
  const { signal } = new AbortController();
  // 1. The question.
  const question = words.length > 0 ? words.join(" ") : (await readAll(process.stdin)).trim();
  if (question === "") {
    throw new SkeinError("invalid_config", "There is no prompt.", {
      hint: 'skein exact run model.skein "What sound does a cow make?"',
    });
  }
  // 2. The model.
  const progress = createProgress("converting the model to integers (once)");
  const { context: contextTokens } = context.settings;
  const threads = threadsOf(context.settings.threads);
  const loaded = await withConverted(
    resolve(file),
    exactCacheFolder(context.home),
    { signal, ...quantizationOption(context.flags), onProgress: (done, total) => progress.show(done, total) },
    (modelPath) => {
      progress.end();
      return loadModel(
        { modelPath, modelId: null, parallel: 1, contextTokens, hint: memoryHint, threads },
        () => undefined,
      );
    },
  ).finally(() => progress.end());
  // 3. The answer.
  const hasTemplate = loaded.prompt.chatTemplate !== null;
  const request = requestOf(flags, question, flags.raw === true || !hasTemplate);
  const recorder = flags.commit === true ? new CommitmentRecorder(sha256) : null;
  let answer = "";
  let end: Extract<GenerateEvent, { type: "end" }> | undefined;
  for await (const event of answerAlone(loaded, request, signal, recorder)) {
    if (event.type === "tokens") {
      answer += event.text;
      if (flags.json !== true) process.stdout.write(printable(event.text));
    }
    if (event.type === "end") end = event;
  }
  // 4. What there is to say about it.
  const facts = { model_id: loaded.facts.modelId, ...summaryOf(end!, recorder) };
  if (flags.json === true) console.log(printableJson({ text: answer, ...facts }));
  else {
    console.log();
    for (const line of notesOf(facts)) console.error(styled("dim", line, process.stderr));
  }
}

function requestOf(flags: RunFlags, question: string, isPlain: boolean): GenerateRequest {
  const system = flags.system === undefined ? [] : [{ role: "system", content: flags.system } as const];
  const prompt: Prompt = isPlain
    ? { kind: "text", text: question }
    : { kind: "chat", messages: [...system, { role: "user", content: question }] };
  return {
    requestId: "run",
    modelId: "",
    prompt,
    emitted: { tokenIds: [], text: "" },
    sampling: {
      ...greedySampling,
      temperature: flags.temperature ?? 0,
      topP: flags.topP ?? 1,
      topK: flags.topK ?? 0,
      minP: flags.minP ?? 0,
      presencePenalty: flags.presencePenalty ?? 0,
      frequencyPenalty: flags.frequencyPenalty ?? 0,
      logitBias: flags.logitBias ?? [],
      seed: flags.seed ?? 0,
    },
    stop: flags.stop ?? [],
    constraint: null,
    logprobs: null,
    outputTokensMax: flags.maxTokens ?? null,
    timeoutMs: Number.POSITIVE_INFINITY,
  };
}

function summaryOf(end: Extract<GenerateEvent, { type: "end" }>, recorder: CommitmentRecorder | null) {
  const { prefillMs, decodeMs } = end.timings;
  // The first token belongs to the prompt's step.
  const pace = decodeMs === 0 ? null : Number((((end.outputTokens - 1) * 1000) / decodeMs).toFixed(1));
  return {
    finish_reason: end.finishReason,
    prompt_tokens: end.promptTokens,
    output_tokens: end.outputTokens,
    prefill_ms: prefillMs,
    decode_ms: decodeMs,
    tokens_per_second: pace,
    ...(recorder === null
      ? {}
      : { execution_root: toHex(recorder.execRoot()), committed_positions: recorder.rows.length }),
  };
}

function notesOf(facts: ReturnType<typeof summaryOf> & { model_id: string }): string[] {
  const pace = facts.tokens_per_second === null ? "" : ` · ${facts.tokens_per_second} tokens/s`;
  return [
    `${facts.output_tokens} tokens${pace} · prompt of ${facts.prompt_tokens} tokens in ${facts.prefill_ms} ms · ${facts.model_id}`,
    ...(facts.execution_root === undefined
      ? []
      : [`execution root of ${facts.committed_positions} positions: ${facts.execution_root}`]),
  ];
}
