/**
 * The `llama` engine: llama.cpp through node-llama-cpp, in a child process that is started again when
 * native code crashes or hangs.
 */
import type { GenerateEvent, GenerateRequest, Prompt } from "../../protocol/generate.ts";
import type { Clock } from "../../util/clock.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Logger } from "../../util/log.ts";
import { BoundedQueue } from "../../util/queue.ts";
import { abortError, throwIfAborted } from "../../util/abort.ts";
import { Admission } from "../admission.ts";
import type { Engine, EngineModel, EngineStatus } from "../port.ts";
import { type LlamaLoadOptions, type ToParent, unreadEventsMax } from "./messages.ts";
import { fromWire, type LlamaProcess, startLlamaProcess } from "./process.ts";

export type { LlamaLoadOptions } from "./messages.ts";

export interface LlamaEngineOptions extends LlamaLoadOptions {
  readonly modelId: string;
  readonly name: string;
}

/** A step of a large model on a slow machine takes seconds; silence for longer is a hang. */
const stepTimeoutMs = 120_000;
const watchIntervalMs = 5_000;
const restartMinMs = 250;
const restartMaxMs = 30_000;
/** A process that ran this long was healthy: the count of failures starts anew. */
const healthyMs = 60_000;
const failuresMax = 8;

interface Call {
  readonly events: BoundedQueue<GenerateEvent>;
}

/** Loads the model. @throws SkeinError `invalid_model_file`, `engine_not_installed`, `engine_unavailable` */
export async function createLlamaEngine(
  deps: { clock: Clock; log: Logger },
  options: LlamaEngineOptions,
): Promise<Engine & { readonly backend: string; processId(): number | null }> {
  const { clock, log } = deps;
  const admission = new Admission(options.parallel);
  const calls = new Map<number, Call>();
  const counts = new Map<number, { resolve: (tokens: number) => void; reject: (error: unknown) => void }>();
  const listeners = new Set<(status: EngineStatus) => void>();
  let status: EngineStatus = { state: "ready" };
  let running: LlamaProcess | null = null;
  let lastProgressMs = clock.monotonicMs();
  let startedMs = clock.monotonicMs();
  let failures = 0;
  let nextId = 1;
  let closed = false;

  function become(next: EngineStatus): void {
    status = next;
    for (const listener of listeners) listener(next);
  }

  function onMessage(message: ToParent): void {
    lastProgressMs = clock.monotonicMs();
    if (message.type === "step") {
      for (const [id, event] of message.events) deliver(id, event);
    } else if (message.type === "failed") {
      const error = fromWire(message.error);
      calls.get(message.id)?.events.fail(error);
      counts.get(message.id)?.reject(error);
    } else if (message.type === "counted") {
      counts.get(message.id)?.resolve(message.promptTokens);
    }
  }

  function deliver(id: number, event: GenerateEvent): void {
    const call = calls.get(id);
    call?.events.push(event);
    if (event.type === "end") call?.events.end();
  }

  function failAll(error: SkeinError): void {
    for (const call of calls.values()) call.events.fail(error);
    for (const count of counts.values()) count.reject(error);
    admission.refuseAll(error);
  }

  function onExit(reason: string): void {
    running = null;
    if (closed) return;
    log.warn({ reason }, "llama engine process ended");
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

  async function start(): Promise<void> {
    const started = await startLlamaProcess(options, { onMessage, onExit });
    if (closed) return started.close();
    running = started;
    startedMs = lastProgressMs = clock.monotonicMs();
  }

  function watch(): void {
    if (closed) return;
    const reading = [...calls.values()].some(({ events }) => events.length < unreadEventsMax / 2);
    if (running !== null && reading && clock.monotonicMs() - lastProgressMs > stepTimeoutMs) {
      log.error({ stepTimeoutMs }, "llama engine hangs; it is killed");
      running.kill();
    }
    clock.schedule(watchIntervalMs, watch);
  }

  function requireProcess(): LlamaProcess {
    if (running !== null && !closed) return running;
    const reason = status.state === "ready" ? "it is closed" : status.reason;
    throw new SkeinError("engine_unavailable", `The engine does not run: ${reason}.`);
  }

  /** One request in the child: sends it, yields its events, and always takes it back. */
  async function* run(
    request: GenerateRequest,
    queueMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<GenerateEvent> {
    const process = requireProcess();
    const id = nextId++;
    // The child pauses at `unreadEventsMax`; start, end and rest never exceed twice that.
    const events = new BoundedQueue<GenerateEvent>(2 * unreadEventsMax);
    let ended = false;
    // At once, not when the consumer reads again: it may never do that.
    const onAbort = (): void => {
      events.fail(abortError(signal));
      if (!ended) process.send({ type: "cancel", id });
      ended = true;
    };
    calls.set(id, { events });
    if (calls.size === 1) lastProgressMs = clock.monotonicMs();
    signal.addEventListener("abort", onAbort, { once: true });
    let read = 0;
    try {
      process.send({ type: "generate", id, request });
      for await (const event of events) {
        ended ||= event.type === "end";
        yield event.type === "end" ? { ...event, timings: { ...event.timings, queueMs } } : event;
        read += 1;
        if (read % (unreadEventsMax / 4) === 0)
          process.send({ type: "read", id, events: unreadEventsMax / 4 });
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      calls.delete(id);
      if (!ended) process.send({ type: "cancel", id });
    }
  }

  async function* generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    requireProcess();
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

  async function countPromptTokens(prompt: Prompt, signal: AbortSignal): Promise<number> {
    throwIfAborted(signal);
    const process = requireProcess();
    const id = nextId++;
    const onAbort = (): void => counts.get(id)?.reject(abortError(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await new Promise((resolve, reject) => {
        counts.set(id, { resolve, reject });
        process.send({ type: "count", id, prompt });
      });
    } finally {
      signal.removeEventListener("abort", onAbort);
      counts.delete(id);
    }
  }

  await start();
  const { contextTokens, backend } = running!;
  clock.schedule(watchIntervalMs, watch);
  const model: EngineModel = {
    modelId: options.modelId,
    name: options.name,
    contextTokensMax: contextTokens,
    parallelMax: options.parallel,
    trustTier: "float",
    resumable: true,
  };
  return {
    kind: "llama",
    model,
    backend,
    generate,
    countPromptTokens,
    status: () => status,
    load: () => admission.load(),
    processId: () => running?.pid ?? null,
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
