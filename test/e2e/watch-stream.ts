/** A client that reads a stream and notes what it sees. */

/** A request's fields, without `stream`; where there are no messages, a completion. */
export type Question = Readonly<Record<string, unknown>>;

/** What a client saw of one stream. */
export interface Seen {
  readonly id: string;
  /** Of every choice. */
  readonly texts: readonly string[];
  /** Of the first one. */
  readonly text: string;
  /** Null: the stream ended as it should. */
  readonly error: string | null;
  readonly attempts: number;
  readonly outputTokens: number;
  /** Longest wait between two pieces of text of one choice. */
  readonly gapMs: number;
  /** When text came, since the request. */
  readonly arrivalsMs: readonly number[];
}

/** How a stream ends that was cut without an error: most clients take it for a whole one. */
export const hiddenCut = "it ended without [DONE]";

/** @param onText hears the first choice's text as far as it is known */
export async function watchStream(
  url: string,
  question: Question & { readonly model: string },
  onText: (text: string) => void = () => undefined,
  init: { readonly headers?: Readonly<Record<string, string>>; readonly signal?: AbortSignal } = {},
): Promise<Seen> {
  const startMs = performance.now();
  const texts: string[] = [];
  const arrivalsMs: number[] = [];
  const lastMs: number[] = [];
  const seen = { id: "", attempts: 0, outputTokens: 0, gapMs: 0 };
  let error: string | null = hiddenCut;
  const take = (data: string): void => {
    if (data === "[DONE]") error = null;
    if (!data.startsWith("{")) return;
    const chunk = JSON.parse(data);
    if (chunk.error !== undefined) error = JSON.stringify(chunk.error);
    seen.attempts = chunk.skein?.attempts ?? seen.attempts;
    seen.outputTokens = chunk.usage?.completion_tokens ?? seen.outputTokens;
    for (const { index, text = "", delta } of chunk.choices ?? []) {
      const piece: string = delta?.content ?? text;
      if (piece === "") continue;
      const nowMs = performance.now();
      arrivalsMs.push(nowMs - startMs);
      seen.gapMs = Math.max(seen.gapMs, nowMs - (lastMs[index] ?? nowMs));
      lastMs[index] = nowMs;
      texts[index] = (texts[index] ?? "") + piece;
      if (index === 0) onText(texts[0]!);
    }
  };
  try {
    const response = await post(url, question, init);
    seen.id = response.headers.get("x-request-id") ?? "";
    if (!response.ok) error = await response.text();
    let rest = "";
    for await (const part of response.ok ? response.body!.pipeThrough(new TextDecoderStream()) : []) {
      const events = (rest + part).split("\n\n");
      rest = events.pop()!;
      for (const event of events) take(/^data: (.*)$/m.exec(event)?.[1] ?? "");
    }
  } catch (thrown) {
    error = String(thrown);
  }
  return { ...seen, texts: Array.from(texts, (text) => text ?? ""), text: texts[0] ?? "", error, arrivalsMs };
}

function post(
  url: string,
  question: Question,
  { headers = {}, signal }: { headers?: Readonly<Record<string, string>>; signal?: AbortSignal },
): Promise<Response> {
  const isChat = question["messages"] !== undefined;
  return fetch(`${url}/v1/${isChat ? "chat/completions" : "completions"}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({
      ...(isChat ? {} : { prompt: "Once upon a time" }),
      temperature: 2,
      ...question,
      stream: true,
      stream_options: { include_usage: true },
    }),
    signal: signal ?? null,
  });
}
