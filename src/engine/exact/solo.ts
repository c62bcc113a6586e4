/** One answer without anything around it, for the command line: optionally with the commitments to every step. */
import { setImmediate as afterSignals } from "node:timers/promises";
import type { CommitmentRecorder } from "../../exact/commitment/recorder.ts";
import type { GenerateEvent, GenerateRequest } from "../../protocol/generate.ts";
import { throwIfAborted } from "../../util/abort.ts";
import { checkContext, checkLogitBias, tokenizePrompt } from "../prompt.ts";
import type { LoadedModel } from "./load.ts";
import { Sequence } from "./sequence.ts";

/** @throws SkeinError as `Engine.generate` */
export async function* answerAlone(
  loaded: LoadedModel,
  request: GenerateRequest,
  signal: AbortSignal,
  recorder: CommitmentRecorder | null,
): AsyncGenerator<GenerateEvent> {
  const { executor, facts, vocabulary } = loaded;
  const contextTokens = facts.contextTokensMax;
  const promptTokens = tokenizePrompt(loaded.prompt, request.prompt);
  checkLogitBias(request.sampling, loaded.prompt.vocabularySize);
  checkContext(promptTokens.length, 0, contextTokens);
  const sequence = new Sequence({ id: 0, request, promptTokens, contextTokens, mask: null }, vocabulary);
  const cache = executor.newSequence();
  yield { type: "start", promptTokens: promptTokens.length, cachedTokens: 0 };
  for (;;) {
    await afterSignals();
    throwIfAborted(signal);
    const startMs = performance.now();
    const { tokens } = sequence;
    const chunk = tokens.slice(cache.length, cache.length + executor.rowsMax);
    const isLast = cache.length + chunk.length === tokens.length;
    const rows = chunk.map((input, i) => ({
      sequence: cache,
      input,
      wantsLogits: isLast && i === chunk.length - 1,
    }));
    const outputs = executor.step(rows, recorder?.listener());
    recorder?.close(chunk);
    sequence.answer.account(performance.now() - startMs);
    const events = isLast ? sequence.draw(outputs.at(-1)!) : [];
    yield* events;
    if (events.at(-1)?.type === "end") return;
  }
}
