/**
 * Engines whose model runs in a host, a process or thread of its own, which is started again when it crashes or
 * hangs: admission, calls, back-pressure and restarts, the same for every kind of host.
 */
import type { EngineKind } from "../../protocol/offer.ts";
import type { Embedded, EmbedRequest } from "../../protocol/embed.ts";
import type { GenerateEvent, GenerateRequest, Prompt } from "../../protocol/generate.ts";
import { abortError, throwIfAborted } from "../../util/abort.ts";
import type { Clock } from "../../util/clock.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Logger } from "../../util/log.ts";
import { BoundedQueue } from "../../util/queue.ts";
import { Admission } from "../admission.ts";
import type { AnswerScores, Engine, EngineModel, EngineStatus, ScoreRequest } from "../port.ts";
import { fromWire, type FromHost, type ToHost, unreadEventsMax } from "./messages.ts";

/** A running host with its model loaded. */
export interface Host {
  send(message: ToHost): void;
  /** Ends it at once; `onExit` follows. */
  kill(): void;
  /** Ends it without `onExit`; bounded in time. */
  close(): Promise<void>;
}

export interface HostEvents {
  onMessage(message: FromHost): void;
  /** It ended by itself or was killed, after it had been started successfully. */
  onExit(reason: string): void;
}

export interface HostedEngineOptions<H extends Host> {
  readonly kind: EngineKind;
  /** @throws SkeinError when the model cannot be loaded */
  start(events: HostEvents): Promise<H>;
  /** Facts of the first host; later ones must have the same. */
  model(host: H): EngineModel;
  /** Whether hosts answer `score`. */
  readonly canScore: boolean;
}

/** A step of a large model on a slow machine takes seconds; silence for longer is a hang. */
const stepTimeoutMs = 120_000;
const watchIntervalMs = 5_000;
/** A host that works counts between two steps; one that hangs is killed before. */
const countTimeoutMs: number = stepTimeoutMs + 2 * watchIntervalMs;
/** Prompts that wait to be counted, those included whose asker has gone. */
const countsMax = 64;
/** Reading a long answer takes a while, and requests come first. */
const scoreTimeoutMs = 10 * 60_000;
/** Inputs are bounded in number and length; whoever asked has given up long before. */
const embedTimeoutMs = 10 * 60_000;
/** Answers that wait to be scored. Auditors ask one after the other. */
const scoresMax = 8;
const restartMinMs = 250;
const restartMaxMs = 30_000;
/** A host that ran this long was healthy: the count of failures starts anew. */
const healthyMs = 60_000;
const failuresMax = 8;

/** A question with one answer. */
interface Question {
  readonly type: "count" | "score" | "embed";
  resolve(answer: FromHost): void;
  reject(error: unknown): void;
}

interface Call {
  readonly events: BoundedQueue<GenerateEvent>;
}

/** Starts the first host. @throws SkeinError as `start` does */
export async function createHostedEngine<H extends Host>(
  deps: { clock: Clock; log: Logger },
  options: HostedEngineOptions<H>,
): Promise<Engine & { host(): H | null }> {
  const { clock, log } = deps;
  const { kind } = options;
  const calls = new Map<number, Call>();
  /** Until the host answers, also when the asker does not wait any more: a hang is noticed by what is owed. */
  const questions = new Map<number, Question>();
  /** Requests that the host was asked to forget and has not yet: a hang must not hide behind askers who gave up. */
  const cancels = new Set<number>();
  const listeners = new Set<(status: EngineStatus) => void>();
  let status: EngineStatus = { state: "ready" };
  let running: H | null = null;
  let lastProgressMs = clock.monotonicMs();
  let startedMs = clock.monotonicMs();
  let failures = 0;
  let nextId = 1;
  let closed = false;

  function become(next: EngineStatus): void {
    status = next;
    for (const listener of listeners) listener(next);
  }

  function onMessage(message: FromHost): void {
    lastProgressMs = clock.monotonicMs();
    if (message.type === "step") {
      for (const [id, event] of message.events) deliver(id, event);
    } else if (message.type === "failed") {
      const error = fromWire(message.error);
      calls.get(message.id)?.events.fail(error);
      takeQuestion(message.id)?.reject(error);
    } else if (message.type === "cancelled") {
      cancels.delete(message.id);
    } else {
      takeQuestion(message.id)?.resolve(message);
    }
  }

  function takeQuestion(id: number): Question | undefined {
    const question = questions.get(id);
    questions.delete(id);
    return question;
  }

  function deliver(id: number, event: GenerateEvent): void {
    const call = calls.get(id);
    call?.events.push(event);
    if (event.type === "end") call?.events.end();
  }

  function failAll(error: SkeinError): void {
    for (const call of calls.values()) call.events.fail(error);
    for (const question of questions.values()) question.reject(error);
    questions.clear();
    cancels.clear();
    admission.refuseAll(error);
  }

  function onExit(reason: string): void {
    running = null;
    if (closed) return;
    log.warn({ engine: kind, reason }, "engine host ended");
    failures = clock.monotonicMs() - startedMs > healthyMs ? 1 : failures + 1;
    failAll(new SkeinError("engine_failed", reason, { retry: "elsewhere" }));
    scheduleRestart(reason);
  }

  function scheduleRestart(reason: string): void {
    if (failures > failuresMax) {
      become({ state: "failed", reason });
      return;
    }
    become({ state: "restarting", reason });
    clock.schedule(Math.min(restartMaxMs, restartMinMs * 2 ** (failures - 1)), () => void restart());
  }

  async function restart(): Promise<void> {
    if (closed) return;
    try {
      await start();
      become({ state: "ready" });
    } catch (error) {
      failures += 1;
      scheduleRestart(toSkeinError(error).message);
    }
  }

  async function start(): Promise<H> {
    const started = await options.start({ onMessage, onExit });
    if (closed) {
      await started.close();
      return started;
    }
    running = started;
    startedMs = lastProgressMs = clock.monotonicMs();
    return started;
  }

  /** Whether the host owes somebody something. */
  function isAwaited(): boolean {
    return (
      questions.size > 0 ||
      cancels.size > 0 ||
      [...calls.values()].some(({ events }) => events.length < unreadEventsMax / 2)
    );
  }

  /** Before something is asked: silence counts from when it began to matter. */
  function beginWaiting(): void {
    if (!isAwaited()) lastProgressMs = clock.monotonicMs();
  }

  function watch(): void {
    if (closed) return;
    beginWaiting();
    if (running !== null && clock.monotonicMs() - lastProgressMs > stepTimeoutMs) {
      log.error({ engine: kind, stepTimeoutMs }, "engine host hangs; it is killed");
      running.kill();
    }
    clock.schedule(watchIntervalMs, watch);
  }

  function requireHost(): H {
    if (running !== null && !closed) return running;
    const reason = status.state === "ready" ? "it is closed" : status.reason;
    throw new SkeinError("engine_unavailable", `The engine does not run: ${reason}.`);
  }

  /** One request in the host: sends it, yields its events, and always takes it back. */
  async function* run(
    request: GenerateRequest,
    queueMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<GenerateEvent> {
    const host = requireHost();
    const id = nextId++;
    // The host pauses at `unreadEventsMax`; start, end and rest never exceed twice that.
    const events = new BoundedQueue<GenerateEvent>(2 * unreadEventsMax);
    let ended = false;
    // At once, not when the consumer reads again: it may never do that.
    const onAbort = (): void => {
      events.fail(abortError(signal));
      cancel();
    };
    const cancel = (): void => {
      if (ended) return;
      ended = true;
      // A host that has ended since owes nothing.
      if (running === host) cancels.add(id);
      host.send({ type: "cancel", id });
    };
    beginWaiting();
    calls.set(id, { events });
    signal.addEventListener("abort", onAbort, { once: true });
    let read = 0;
    try {
      host.send({ type: "generate", id, request });
      for await (const event of events) {
        ended ||= event.type === "end";
        yield event.type === "end" ? { ...event, timings: { ...event.timings, queueMs } } : event;
        read += 1;
        if (read % (unreadEventsMax / 4) === 0) host.send({ type: "read", id, events: unreadEventsMax / 4 });
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      calls.delete(id);
      cancel();
    }
  }

  async function* generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    requireHost();
    const askedMs = clock.monotonicMs();
    const leave = await admission.enter(signal);
    signal.addEventListener("abort", leave, { once: true });
    try {
      yield* run(request, Math.round(clock.monotonicMs() - askedMs), signal);
    } finally {
      signal.removeEventListener("abort", leave);
      leave();
    }
  }

  /** Asks the host one thing; what it owes is remembered until it answers, whoever still waits for it. */
  async function askHost(
    message: Extract<ToHost, { type: Question["type"] }>,
    timeoutMs: number,
    late: string,
    signal: AbortSignal,
  ): Promise<FromHost> {
    const host = requireHost();
    const { id, type } = message;
    beginWaiting();
    const { promise, resolve, reject } = Promise.withResolvers<FromHost>();
    const give = (error: SkeinError): void => {
      reject(error);
      if (type !== "count" && questions.has(id)) host.send({ type: "cancel", id });
    };
    const onAbort = (): void => give(abortError(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    const cancelTimer = clock.schedule(timeoutMs, () => give(new SkeinError("deadline_exceeded", late)));
    questions.set(id, { type, resolve, reject });
    try {
      host.send(message);
    } catch (error) {
      questions.delete(id);
      reject(error);
    }
    try {
      return await promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
      cancelTimer();
    }
  }

  /** A place among those who wait for answers of one kind. */
  function newQuestion(type: Question["type"], max: number, what: string): number {
    requireHost();
    const waiting = [...questions.values()].filter((question) => question.type === type).length;
    if (waiting < max) return nextId++;
    throw new SkeinError("overloaded", `${waiting} ${what} already.`, { hint: "Try again in a while." });
  }

  async function countPromptTokens(prompt: Prompt, signal: AbortSignal): Promise<number> {
    throwIfAborted(signal);
    const id = newQuestion("count", countsMax, "prompts wait to be counted");
    const late = "The engine did not count the prompt in time.";
    const answer = await askHost({ type: "count", id, prompt }, countTimeoutMs, late, signal);
    if (answer.type === "counted") return answer.promptTokens;
    throw wrongAnswer(answer);
  }

  async function score(request: ScoreRequest, signal: AbortSignal): Promise<AnswerScores> {
    throwIfAborted(signal);
    const id = newQuestion("score", scoresMax, "answers wait to be scored");
    const late = "The engine did not score the answer in time.";
    const answer = await askHost({ type: "score", id, score: request }, scoreTimeoutMs, late, signal);
    if (answer.type === "scored") return answer.scores;
    throw wrongAnswer(answer);
  }

  async function embed(request: EmbedRequest, signal: AbortSignal): Promise<Embedded> {
    throwIfAborted(signal);
    requireHost();
    const leave = await admission.enter(signal);
    try {
      // Both may have changed while it waited for its turn.
      throwIfAborted(signal);
      requireHost();
      const id = nextId++;
      const late = "The engine did not make the embeddings in time.";
      const answer = await askHost({ type: "embed", id, request }, embedTimeoutMs, late, signal);
      if (answer.type === "embedded") return answer.embedded;
      throw wrongAnswer(answer);
    } finally {
      leave();
    }
  }

  const model = options.model(await start());
  const admission = new Admission(model.parallelMax);
  clock.schedule(watchIntervalMs, watch);
  return {
    kind,
    model,
    generate,
    countPromptTokens,
    ...(options.canScore ? { score } : {}),
    ...(model.features.includes("embeddings") ? { embed } : {}),
    status: () => status,
    load: () => admission.load(),
    host: () => running,
    onStatus(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      if (closed) return;
      closed = true;
      failAll(new SkeinError("engine_unavailable", "The engine was closed."));
      await running?.close();
    },
  };
}

function wrongAnswer({ type }: FromHost): SkeinError {
  return new SkeinError("engine_failed", `The engine's host answered something else (${type}).`);
}
