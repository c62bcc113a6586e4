/** The gateway's audits and its own requests, put together. */
import type { Directory } from "../directory/directory.ts";
import type { GatewayDeps } from "../options.ts";
import type { CompletionRequest } from "../requests/parse-request.ts";
import { toHex } from "../../util/bytes.ts";
import { noHints } from "../../router/hints.ts";
import { BeaconBoard } from "./beacon-board.ts";
import { type Canary, startCanaries } from "./canaries.ts";
import { Audits } from "./index.ts";
import type { TraceSource } from "./locate-fault.ts";
import type { AuditOptions } from "./options.ts";
import type { Reputations } from "./reputations.ts";

export interface OpenedAudits {
  readonly audits: Audits | null;
  readonly beacons: BeaconBoard;
  /** Begins to ask as a client does. */
  startCanaries(ask: (request: CompletionRequest, requestId: string) => Promise<void>): void;
  close(): void;
}

export function openAudits(
  deps: GatewayDeps,
  options: AuditOptions | undefined,
  { directory, reputations }: { directory: Directory; reputations: Reputations | null },
): OpenedAudits {
  const beacons = new BeaconBoard();
  if (options === undefined || reputations === null) {
    return { audits: null, beacons, startCanaries: () => undefined, close: () => undefined };
  }
  const isIdle = (): boolean => directory.entries.every(({ inFlight }) => inFlight === 0);
  const onJudged = (providerId: string): void => directory.trustChanged(providerId);
  const traceOf: TraceSource = (providerId) => {
    const session = directory.entryOf(providerId)?.session;
    return session?.trace === undefined ? null : (request, signal) => session.trace!(request, signal);
  };
  const audits = new Audits({ ...deps, reputations, isIdle, onJudged, traceOf, channel: beacons }, options);
  let stopCanaries = (): void => undefined;
  const models = (): string[] => {
    const offers = directory.entries.flatMap(({ models: offered }) => offered);
    return [...new Set(offers.filter((offer) => audits.canAudit(offer)).map(({ modelId }) => modelId))];
  };
  // Looks for the model of whoever joins before anybody asks for audits of it.
  const unsubscribe = directory.onChange(() => void models());
  return {
    audits,
    beacons,
    startCanaries(ask) {
      if (options.canaries === null) return;
      const asked = (canary: Canary): Promise<void> =>
        ask(requestOf(canary, deps.random.bytes(4)), toHex(deps.random.bytes(12)));
      stopCanaries = startCanaries({ ...deps, models, ask: asked }, options.canaries);
    },
    close() {
      unsubscribe();
      stopCanaries();
      void audits.close();
    },
  };
}

function requestOf(
  { model, prompt, outputTokensMax, temperature }: Canary,
  seed: Uint8Array,
): CompletionRequest {
  return {
    endpoint: prompt.kind === "chat" ? "chat" : "text",
    model,
    prompts: [prompt],
    n: 1,
    sampling: {
      temperature,
      topP: 1,
      topK: 0,
      minP: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
      logitBias: [],
      seed: new DataView(seed.buffer, seed.byteOffset).getUint32(0),
    },
    stop: [],
    outputTokensMax,
    stream: true,
    includeUsage: true,
    allowOtherModels: false,
    hints: noHints,
    constraint: null,
    logprobs: null,
    namesTier: false,
  };
}
