/** What was seen of one attempt, as the router wants to learn it: measured here, whatever the provider claims. */
import type { GenerateEvent } from "../../protocol/generate.ts";
import type { Observation } from "../../router/pace.ts";
import type { Occupied } from "../search/choose-provider.ts";
import type { Stopwatch } from "./stopwatch.ts";

type StartEvent = Extract<GenerateEvent, { type: "start" }>;
type EndEvent = Extract<GenerateEvent, { type: "end" }>;

/** A client that reads slowly says nothing about the provider: above this share of the time, the pace is not learned. */
const unreadShareMax = 0.1;
/** Below this, timers and chance decide. */
const unreadMinMs = 1;

export class Sighting {
  readonly #to: Occupied;
  readonly #watch: Stopwatch;
  readonly #startPosition: number;
  /** When the provider began with it. */
  #startMs = 0;
  #unreadMs = 0;
  #promptTokens = 0;
  #cachedTokens = 0;

  constructor(to: Occupied, watch: Stopwatch, startPosition: number) {
    this.#to = to;
    this.#watch = watch;
    this.#startPosition = startPosition;
  }

  /** @param promptTokens as far as they are believed */
  started({ cachedTokens }: StartEvent, promptTokens: number): void {
    this.#startMs = this.#watch.elapsedMs;
    // What was emitted elsewhere is prefilled here.
    this.#promptTokens = promptTokens + this.#startPosition;
    this.#cachedTokens = Math.min(cachedTokens, this.#promptTokens);
  }

  /** The first token came: the prompt is read. */
  first(): void {
    this.#to.begun();
  }

  /** For so long the client, who may take its time, had no room for a text. */
  unread(ms: number): void {
    this.#unreadMs += ms;
  }

  /** Claims make the provider neither slower nor faster than it was. */
  observation(end: EndEvent, position: number): Observation {
    const { candidate, entry, predictedTtftMs, expectedCachedTokens } = this.#to;
    const elapsedMs = this.#watch.elapsedMs;
    const firstMs = this.#watch.firstMs ?? elapsedMs;
    // Only one whose slots were taken may say that the request waited, and no longer than its start was late.
    const wasFull = candidate.active + candidate.queued >= candidate.offer.parallelMax;
    const queueMs = wasFull ? Math.min(end.timings.queueMs, this.#startMs) : 0;
    // The router adds the present round trip and queue by itself.
    const ttftMs = Math.max(0, firstMs - queueMs - (entry.session.roundTripMs ?? 0));
    const decodeMs = elapsedMs - firstMs;
    const isSlowReader = this.#unreadMs > Math.max(unreadMinMs, unreadShareMax * decodeMs);
    const hit = { cacheHit: Math.min(1, this.#cachedTokens / expectedCachedTokens) };
    return {
      ttftMs,
      answerMs: ttftMs + decodeMs,
      outputTokens: isSlowReader ? 0 : position - this.#startPosition,
      prefillTokens: candidate.aheadTokens + this.#promptTokens - this.#cachedTokens,
      lateness: firstMs / Math.max(1, predictedTtftMs),
      ...(expectedCachedTokens > 0 ? hit : {}),
    };
  }
}
