/** What the two processes of the gateway benchmark say to each other. */
export interface Load {
  readonly streams: number;
  readonly requestsPerStream: number;
  readonly tokens: number;
  readonly msPerToken: number;
}

/**
 * Waits before the first request of a stream, so that the streams do not run in step: arrivals of real clients are
 * spread out, and a burst would measure its own queue.
 */
export function stagger(load: Load, stream: number): Promise<void> {
  const requestMs = load.tokens * load.msPerToken;
  return new Promise((resolve) => setTimeout(resolve, (stream / load.streams) * requestMs));
}

export type ToSubject =
  | { readonly type: "serve"; readonly load: Load }
  | { readonly type: "direct"; readonly load: Load }
  | { readonly type: "cpu" };

export type FromSubject =
  | { readonly type: "serving"; readonly url: string }
  | { readonly type: "direct"; readonly ttftMs: number[]; readonly cpuUs: number }
  | { readonly type: "cpu"; readonly cpuUs: number };
