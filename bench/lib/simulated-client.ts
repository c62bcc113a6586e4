/** Clients of a simulated gateway: some wait for the whole answer, some stream, some lose their line and come back, some leave. */
import type { Gateway } from "../../src/gateway/index.ts";

export type Manner = "whole" | "stream" | "resume" | "leave";

/** What came of an answer. */
export interface Answer {
  readonly error: string | null;
  /** By choice. */
  readonly texts: readonly string[];
  readonly outputTokens: number;
  readonly attempts: number;
}

type Body = Readonly<Record<string, unknown>>;

const url = "http://127.0.0.1/v1/chat/completions";

/**
 * @param readEvents after how many events one that does so loses its line, or leaves
 * @param pause lets time pass before it comes back
 */
export async function ask(
  { fetch }: Gateway,
  body: Body,
  manner: Manner,
  readEvents: number,
  pause: () => Promise<void>,
): Promise<Answer> {
  if (manner === "whole") return wholeAnswer(await fetch(post(body, {})));
  const line = new AbortController();
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const headers: Record<string, string> = manner === "resume" ? { "x-skein-resume": "true" } : {};
  const response = await fetch(post(asked, headers, line.signal));
  if (!response.ok) return failed(await response.text());
  const seen = new Transcript();
  if (manner === "stream") return seen.read(response);
  await seen.read(response, readEvents);
  line.abort();
  if (manner === "leave") return seen.answer;
  await pause();
  const id = response.headers.get("x-request-id")!;
  const last = seen.lastEventId === "" ? {} : { "last-event-id": seen.lastEventId };
  const rest = await fetch(new Request(`http://127.0.0.1/v1/requests/${id}/events`, { headers: last }));
  return rest.ok ? seen.read(rest) : failed(await rest.text());
}

function post(body: Body, headers: Record<string, string>, signal?: AbortSignal): Request {
  return new Request(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
}

function failed(error: string): Answer {
  return { error, texts: [], outputTokens: 0, attempts: 0 };
}

async function wholeAnswer(response: Response): Promise<Answer> {
  const text = await response.text();
  if (!response.ok) return failed(text);
  const { choices, usage, skein } = JSON.parse(text) as {
    choices: { message: { content: string } }[];
    usage: { completion_tokens: number };
    skein: { attempts: number };
  };
  return {
    error: null,
    texts: choices.map(({ message }) => message.content),
    outputTokens: usage.completion_tokens,
    attempts: skein.attempts,
  };
}

/** What came over one or more connections. */
class Transcript {
  lastEventId = "";
  #error: string | null = "it ended without [DONE]";
  readonly #texts: string[] = [];
  #outputTokens = 0;
  #attempts = 0;

  get answer(): Answer {
    const { texts, outputTokens, attempts } = {
      texts: this.#texts,
      outputTokens: this.#outputTokens,
      attempts: this.#attempts,
    };
    return { error: this.#error, texts: Array.from(texts, (text) => text ?? ""), outputTokens, attempts };
  }

  /** Reads until the end, or that many events. */
  async read(response: Response, eventsMax = Number.POSITIVE_INFINITY): Promise<Answer> {
    let left = eventsMax;
    let rest = "";
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
      const events = (rest + part).split("\n\n");
      rest = events.pop()!;
      for (const event of events) {
        if (left-- <= 0) return this.answer;
        this.#take(event);
      }
    }
    return this.answer;
  }

  #take(event: string): void {
    this.lastEventId = /^id: (.*)$/m.exec(event)?.[1] ?? this.lastEventId;
    const data = /^data: (.*)$/m.exec(event)?.[1] ?? "";
    if (data === "[DONE]") this.#error = null;
    if (!data.startsWith("{")) return;
    const chunk = JSON.parse(data);
    if (chunk.error !== undefined) this.#error = JSON.stringify(chunk.error);
    for (const { index, delta } of chunk.choices ?? []) {
      this.#texts[index] = (this.#texts[index] ?? "") + (delta.content ?? "");
    }
    this.#attempts = Math.max(this.#attempts, chunk.skein?.attempts ?? 0);
    this.#outputTokens = chunk.usage?.completion_tokens ?? this.#outputTokens;
  }
}
