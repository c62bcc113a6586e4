/** One answer of an OpenAI-compatible upstream as the events of an engine. */
import type { FinishReason, GenerateEvent, GenerateRequest, Prompt } from "../protocol/generate.ts";
import { chatTexts } from "../protocol/chat-texts.ts";
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { type Chunk, type ChunkLimits, readChunks } from "./openai-chunks.ts";
import type { Upstream } from "./openai-upstream.ts";
import { CallWriter, ThoughtWriter } from "./openai-tools.ts";
import { StopMatcher } from "./stop-matcher.ts";

export interface AnswerLimits extends ChunkLimits {
  readonly firstTokenTimeoutMs: number;
  readonly tokenTimeoutMs: number;
  readonly usageTimeoutMs: number;
}

export const answerLimits: AnswerLimits = {
  /** Before it answers, and before its first token: it may load the model or let the request wait. */
  firstTokenTimeoutMs: 300_000,
  /** Between two events: silence for longer than any step of a large model on a slow machine. */
  tokenTimeoutMs: 60_000,
  /** Between finish_reason and the counts, which some servers never send. */
  usageTimeoutMs: 5_000,
  /** One event; servers repeat a few hundred characters around each piece of text. */
  eventCharsMax: 1_000_000,
  /** All events of an answer: a million tokens, each in an event of its own. */
  answerCharsMax: 500_000_000,
};

/** Pieces without a token of their own, at the end; more of them come from an upstream that ignores `max_tokens`. */
const surplusPiecesMax = 8;

export async function* streamAnswer(
  deps: { clock: Clock; upstream: Upstream },
  model: string,
  request: GenerateRequest,
  outer: { signal: AbortSignal; queueMs: number; limits: AnswerLimits },
): AsyncGenerator<GenerateEvent> {
  const { clock, upstream } = deps;
  const { limits } = outer;
  const silence = watchSilence(clock);
  const signal = AbortSignal.any([outer.signal, silence.signal]);
  const startMs = clock.monotonicMs();
  const answer = new Answer(request);
  let firstMs: number | null = null;
  try {
    // 1. The upstream accepts.
    silence.expectWithin(limits.firstTokenTimeoutMs);
    const body = await upstream.open(model, request, signal);
    silence.pause();
    yield { type: "start", promptTokens: answer.promptTokens, cachedTokens: 0 };
    // 2. Its chunks. While the consumer is busy, nobody waits for the upstream.
    silence.expectWithin(limits.firstTokenTimeoutMs);
    try {
      for await (const chunk of readChunks(body, signal, limits)) {
        silence.pause();
        if (hasToken(chunk)) firstMs ??= clock.monotonicMs();
        yield* answer.take(chunk);
        // An upstream that ignores `stop` or `max_tokens` is cut off.
        if (answer.isCut) break;
        const tokenTimeoutMs = firstMs === null ? limits.firstTokenTimeoutMs : limits.tokenTimeoutMs;
        silence.expectWithin(answer.isFinished ? limits.usageTimeoutMs : tokenTimeoutMs);
      }
    } catch (error) {
      // After finish_reason only counts can be missing.
      if (!answer.isFinished || outer.signal.aborted) throw error;
    }
    yield* answer.rest();
  } finally {
    // Also when the consumer leaves: the upstream must not go on computing.
    silence.abort();
  }
  // 3. Its counts.
  const endMs = clock.monotonicMs();
  const prefillMs = Math.round((firstMs ?? endMs) - startMs);
  const decodeMs = Math.round(endMs - (firstMs ?? endMs));
  yield answer.end({ queueMs: outer.queueMs, prefillMs, decodeMs });
}

function hasToken({ content, calls, reasoning }: Chunk): boolean {
  return content !== "" || calls.length > 0 || reasoning !== "";
}

/** Counts and cuts what comes in. Usually a piece is a token; the upstream's own count corrects that at the end. */
class Answer {
  promptTokens: number;
  isCut = false;
  readonly #limit: number;
  readonly #stops: readonly string[];
  #stop: StopMatcher;
  readonly #calls = new CallWriter();
  readonly #thoughts: ThoughtWriter;
  #pieces = 0;
  #outputTokens: number | null = null;
  #finishReason: FinishReason | null = null;

  constructor({ prompt, emitted, constraint, outputTokensMax, stop }: GenerateRequest) {
    // Text of a form has no room for them, nor has the middle of an answer.
    const hasRoom = prompt.kind === "chat" && emitted.text === "" && constraint?.responseFormat == null;
    this.#thoughts = new ThoughtWriter(hasRoom);
    this.promptTokens = estimateTokens(prompt);
    this.#limit = outputTokensMax ?? Number.POSITIVE_INFINITY;
    this.#stops = stop;
    this.#stop = new StopMatcher(stop);
  }

  /** Whether the upstream said that it ended, or was cut off. */
  get isFinished(): boolean {
    return this.#finishReason !== null;
  }

  *take(chunk: Chunk): Generator<GenerateEvent> {
    const { finishReason, usage } = chunk;
    if (usage !== null) {
      this.promptTokens = usage.promptTokens;
      this.#outputTokens = usage.outputTokens;
    }
    if (hasToken(chunk)) {
      const position = Math.min(this.#pieces, this.#limit);
      this.#pieces += 1;
      const { text, stopped } = this.#said(chunk);
      yield { type: "tokens", position, tokenIds: [], tokenCount: this.#pieces > this.#limit ? 0 : 1, text };
      if (stopped) this.#cut("stop");
      else if (this.#pieces > this.#limit + surplusPiecesMax) this.#cut("length");
    }
    if (finishReason !== null) this.#finishReason ??= finishReason === "length" ? "length" : "stop";
  }

  /** Its text; stop sequences are looked for in words only, not in calls. */
  #said({ content, calls, reasoning }: Chunk): { readonly text: string; readonly stopped: boolean } {
    const hasWords = content !== "" || calls.length > 0;
    const thoughts = this.#thoughts.write(reasoning) + (hasWords ? this.#thoughts.close() : "");
    const closing = thoughts + (content === "" ? "" : this.#calls.close());
    const said = this.#stop.push(content);
    if (calls.length === 0 || said.stopped) return { ...said, text: closing + said.text };
    const last = this.#stop.flush();
    this.#stop = new StopMatcher(this.#stops);
    const written = calls.map((call) => this.#calls.write(call)).join("");
    return { text: closing + said.text + last.text + (last.stopped ? "" : written), stopped: last.stopped };
  }

  *rest(): Generator<GenerateEvent> {
    if (this.#finishReason === null) {
      throw new SkeinError("upstream_failed", "The upstream's answer ended too early.", {
        hint: "Its log may tell why; it must stream and send a finish_reason.",
      });
    }
    const { text, stopped } = this.#stop.flush();
    if (stopped) this.#finishReason = "stop";
    const position = Math.min(this.#pieces, this.#limit);
    const isCut = stopped || this.#finishReason === "length";
    const all = text + (isCut ? "" : this.#thoughts.close() + this.#calls.close());
    if (all !== "") yield { type: "tokens", position, tokenIds: [], tokenCount: 0, text: all };
  }

  end(timings: Extract<GenerateEvent, { type: "end" }>["timings"]): GenerateEvent {
    const outputTokens = Math.min(this.#outputTokens ?? this.#pieces, this.#limit);
    return {
      type: "end",
      finishReason: this.#finishReason ?? "stop",
      promptTokens: this.promptTokens,
      outputTokens,
      timings,
    };
  }

  #cut(reason: FinishReason): void {
    this.isCut = true;
    this.#finishReason = reason;
  }
}

/** A signal that aborts when something expected does not come in time. */
function watchSilence(clock: Clock): {
  signal: AbortSignal;
  expectWithin(ms: number): void;
  pause(): void;
  abort(): void;
} {
  const controller = new AbortController();
  let cancel = (): void => undefined;
  return {
    signal: controller.signal,
    expectWithin(ms) {
      cancel();
      cancel = clock.schedule(ms, () =>
        controller.abort(
          new SkeinError("upstream_failed", `The upstream sent nothing for ${ms / 1000} seconds.`, {
            hint: "Check that its machine is not overloaded and that it streams.",
          }),
        ),
      );
    },
    pause: () => cancel(),
    abort() {
      cancel();
      controller.abort();
    },
  };
}

/** Characters per token of English text in common vocabularies; an estimate that errs on the high side. */
const charsPerToken = 3;
const tokensPerMessage = 8;

/** Without the upstream's tokenizer only an upper estimate can be given. */
export function estimateTokens(prompt: Prompt): number {
  switch (prompt.kind) {
    case "tokens":
      return prompt.tokenIds.length;
    case "text":
      return Math.ceil((prompt.text.length + (prompt.suffix ?? "").length) / charsPerToken);
    case "chat":
      return chatTexts(prompt).reduce(
        (sum, { length }) => sum + tokensPerMessage + Math.ceil(length / charsPerToken),
        0,
      );
  }
}
