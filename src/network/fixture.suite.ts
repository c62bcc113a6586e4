/** Sessions for tests: two peers over a memory network or libp2p, and handlers that answer predictably. */
import assert from "node:assert/strict";
import {
  type GenerateEvent,
  type GenerateRequest,
  type GenerateTimings,
  greedySampling,
} from "../protocol/generate.ts";
import type { Offer } from "../protocol/offer.ts";
import { systemClock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import { silentLogger } from "../util/log.ts";
import { seededRandom } from "../util/random.ts";
import { drawn } from "../util/sink.ts";
import { acceptProviderSession } from "./gateway-session.ts";
import { providerIdOfSeed } from "./identity.ts";
import { createLibp2pNetwork } from "./libp2p.ts";
import { MemoryHub } from "./memory.ts";
import type { Connection, Network } from "./port.ts";
import { openGatewaySession } from "./provider-session.ts";
import type { JoinPolicy, ProviderSession, RequestHandler, SessionDeps } from "./session.ts";

export const deps: SessionDeps = { clock: systemClock, random: seededRandom(1), log: silentLogger };
export const gatewaySeed: Uint8Array = seededRandom(21).bytes(32);
export const providerSeed: Uint8Array = seededRandom(22).bytes(32);
export const never: AbortSignal = new AbortController().signal;
export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
export const code =
  (expected: string) =>
  (error: unknown): boolean =>
    error instanceof SkeinError && error.code === expected;

export function requestOf(values: Partial<GenerateRequest> = {}): GenerateRequest {
  return {
    requestId: "r",
    modelId: "m",
    prompt: { kind: "text", text: "hello" },
    emitted: { tokenIds: [], text: "" },
    sampling: greedySampling,
    stop: [],
    constraint: null,
    logprobs: null,
    outputTokensMax: null,
    timeoutMs: 10_000,
    ...values,
  };
}

export const timings: GenerateTimings = { queueMs: 0, prefillMs: 1, decodeMs: 2 };

/** Sends `count` tokens, as fast as they are taken. */
export function tokensHandler(
  count: (request: GenerateRequest) => number,
): RequestHandler & { sent: number; cancelled: number } {
  const handler = {
    sent: 0,
    cancelled: 0,
    async *generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
      yield { type: "start", promptTokens: 3, cachedTokens: 0 };
      const total = count(request);
      try {
        for (let position = 0; position < total; position++) {
          if (signal.aborted) return;
          if (position % 16 === 0) await pause(0);
          handler.sent += 1;
          yield { type: "tokens", position, tokenIds: [position], tokenCount: 1, text: `${position} ` };
        }
        yield { type: "end", finishReason: "stop", promptTokens: 3, outputTokens: total, timings };
      } finally {
        if (signal.aborted) handler.cancelled += 1;
      }
    },
    countPromptTokens: async () => 42,
  };
  return handler;
}

export interface Joined {
  readonly gateway: ProviderSession;
  readonly provider: Awaited<ReturnType<typeof openGatewaySession>>;
  readonly connection: Connection;
  readonly close: () => Promise<void>;
}

export type MakePair = () => Promise<{ server: Network; client: Network }>;

export async function join(
  makePair: MakePair,
  handler: RequestHandler,
  options: {
    policy?: JoinPolicy;
    token?: string | null;
    gatewayDeps?: Partial<SessionDeps>;
    providerDeps?: Partial<SessionDeps>;
    /** The gateway's end of the connection. */
    onIncoming?: (connection: Connection) => void;
  } = {},
): Promise<Joined> {
  const { server, client } = await makePair();
  const accepted = new Promise<ProviderSession>((resolve, reject) => {
    server.onConnection((incoming) => {
      const facts = {
        gatewayId: server.peerId,
        policy: options.policy ?? { kind: "open" as const },
        software: "test",
      };
      options.onIncoming?.(incoming);
      acceptProviderSession({ ...deps, ...options.gatewayDeps }, incoming, facts).then(resolve, reject);
    });
  });
  accepted.catch(() => undefined);
  const close = async (): Promise<void> => void (await Promise.all([server.close(), client.close()]));
  try {
    const connection = await client.dial(server.addresses()[0]!, AbortSignal.timeout(5000));
    const facts = { providerId: client.peerId, token: options.token ?? null, software: "test" };
    const provider = await openGatewaySession(
      { ...deps, ...options.providerDeps },
      connection,
      facts,
      handler,
    );
    return { gateway: await accepted, provider, connection, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The events of one attempt, to be read one by one. */
export function eventsOf(
  session: ProviderSession,
  request: GenerateRequest,
  signal: AbortSignal,
): AsyncGenerator<GenerateEvent, void> {
  return drawn((sink, left) => session.generate(request, AbortSignal.any([signal, left]), sink));
}

export async function collect(
  events: AsyncIterable<GenerateEvent>,
): Promise<{ text: string; end: GenerateEvent | undefined }> {
  let text = "";
  let end: GenerateEvent | undefined;
  for await (const event of events) {
    if (event.type === "tokens") text += event.text;
    end = event;
  }
  return { text, end };
}

export function offerOf(providerId: string, sequence: number, nowMs = Date.now()): Offer {
  return {
    providerId,
    sequence,
    issuedAtMs: nowMs,
    expiresAtMs: nowMs + 60_000,
    region: `r${sequence}`,
    models: [],
  };
}

export async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !holds(); i++) await pause(10);
  assert.ok(holds(), what);
}

export async function memoryPair(): Promise<{ server: Network; client: Network }> {
  const hub = new MemoryHub();
  return {
    server: hub.create(await providerIdOfSeed(gatewaySeed)),
    client: hub.create(await providerIdOfSeed(providerSeed)),
  };
}

export async function libp2pPair(): Promise<{ server: Network; client: Network }> {
  const common = { announce: [], lan: false, log: silentLogger };
  return {
    server: await createLibp2pNetwork({ ...common, seed: gatewaySeed, listen: ["/ip4/127.0.0.1/tcp/0"] }),
    client: await createLibp2pNetwork({ ...common, seed: providerSeed, listen: [] }),
  };
}
