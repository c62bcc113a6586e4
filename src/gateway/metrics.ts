/**
 * Metrics for Prometheus, named after OpenTelemetry's conventions for generative AI (dots become
 * underscores, the unit stands last). Labels hold model names that are served, never what clients send.
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { ModelOffer } from "../protocol/offer.ts";
import { slotsFor } from "../router/plan.ts";
import type { Bill } from "./answers/answer-request.ts";
import type { ChoiceEnd } from "./answers/answer-choice.ts";
import type { Directory } from "./directory/directory.ts";
import { providerStates, stateOf } from "./answers/views.ts";
import type { WaitingRoom } from "./search/waiting-room.ts";

/** Buckets that OpenTelemetry's conventions advise. */
const durationBuckets = [
  0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
const firstTokenBuckets = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
];
const perTokenBuckets = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5,
];
const tokenBuckets = [1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576];

/** Paths that may become labels; whatever else is asked for is `other`. */
const routes = [
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/embeddings",
  "/v1/models",
  "/v1/quote",
  "/v1/responses",
  "/v1/messages",
  "/v1/count_tokens",
  "/v1/files",
  "/v1/uploads",
  "/v1/batches",
  "/v1/requests",
  "/skein/v1/gateway",
  "/skein/v1/providers",
  "/healthz",
  "/metrics",
];

/** As OpenTelemetry names them. */
type Operation = "chat" | "text_completion" | "embeddings";

export interface GatewayMetrics {
  /** An HTTP request was answered, or its answer begun; `errorCode` is empty when it is not an error. */
  responded(path: string, status: number, errorCode: string): void;
  requestEnded(operation: Operation, model: string, seconds: number, errorCode: string | null): void;
  answered(operation: Operation, model: string, bill: Bill, ends: readonly ChoiceEnd[]): void;
  /** A request found no slot but those that the headroom keeps. */
  keptWaiting(): void;
  /** A second attempt was made beside a late one: `won` when it was faster. */
  hedged(outcome: "won" | "lost"): void;
  /** A second attempt was made beside a slow stream: `won` when it took over. */
  moved(outcome: "won" | "lost"): void;
  /** `ok`, or the error code. */
  attempted(outcome: string): void;
  /** A number that is read when the metrics are. */
  watch(name: string, help: string, read: () => number): void;
  text(): Promise<{ body: string; contentType: string }>;
}

export function createMetrics(directory: Directory, waitingRoom: WaitingRoom): GatewayMetrics {
  const registry = new Registry();
  const registers = [registry];
  const common = ["gen_ai_operation_name", "gen_ai_request_model"] as const;
  const duration = new Histogram({
    name: "gen_ai_client_operation_duration_seconds",
    help: "Duration of requests, from arrival to the last byte.",
    labelNames: [...common, "error_type"],
    buckets: durationBuckets,
    registers,
  });
  const firstToken = new Histogram({
    name: "gen_ai_server_time_to_first_token_seconds",
    help: "From arrival of a request to its first token.",
    labelNames: common,
    buckets: firstTokenBuckets,
    registers,
  });
  const perToken = new Histogram({
    name: "gen_ai_server_time_per_output_token_seconds",
    help: "Time per output token after the first.",
    labelNames: common,
    buckets: perTokenBuckets,
    registers,
  });
  const usage = new Histogram({
    name: "gen_ai_client_token_usage",
    help: "Tokens per request.",
    labelNames: [...common, "gen_ai_token_type"],
    buckets: tokenBuckets,
    registers,
  });
  const fees = new Counter({
    name: "skein_fees_nanousd_total",
    help: "Charges of all requests in nanoUSD.",
    labelNames: common,
    registers,
  });
  const requests = new Counter({
    name: "skein_http_requests_total",
    help: "HTTP requests by path, status and error code, those that were refused included.",
    labelNames: ["http_route", "http_response_status_code", "error_type"],
    registers,
  });
  const attempts = new Counter({
    name: "skein_attempts_total",
    help: "Attempts at providers, by outcome: ok, cancelled, or an error code.",
    labelNames: ["outcome"],
    registers,
  });
  const hedges = new Counter({
    name: "skein_hedges_total",
    help: "Second attempts beside late ones: won when they were faster, lost when not.",
    labelNames: ["outcome"],
    registers,
  });
  const moves = new Counter({
    name: "skein_moves_total",
    help: "Second attempts beside slow streams: won when they took over, lost when not.",
    labelNames: ["outcome"],
    registers,
  });
  const kept = new Counter({
    name: "skein_headroom_waits_total",
    help: "Choices that waited although slots were free, because the headroom keeps those.",
    registers,
  });
  addGauges(registry, directory, waitingRoom);

  /** Clients choose names; only those that somebody serves become labels. */
  const labels = (operation: string, model: string) => ({
    gen_ai_operation_name: operation,
    gen_ai_request_model: directory.wasKnown(model) ? model : "unknown",
  });

  return {
    responded(path, status, errorCode) {
      const route = routes.find((known) => path === known || path.startsWith(`${known}/`)) ?? "other";
      requests.inc({ http_route: route, http_response_status_code: status, error_type: errorCode });
    },
    requestEnded(operation, model, seconds, errorCode) {
      duration.observe({ ...labels(operation, model), error_type: errorCode ?? "" }, seconds);
    },
    answered(operation, model, bill, ends) {
      const labelled = labels(operation, model);
      usage.observe({ ...labelled, gen_ai_token_type: "input" }, bill.promptTokens);
      usage.observe({ ...labelled, gen_ai_token_type: "output" }, bill.outputTokens);
      fees.inc(labelled, Number(bill.feeAmount));
      for (const { ttftMs, totalMs, outputTokens } of ends) {
        firstToken.observe(labelled, ttftMs / 1000);
        if (outputTokens > 1) perToken.observe(labelled, (totalMs - ttftMs) / 1000 / (outputTokens - 1));
      }
    },
    keptWaiting: () => kept.inc(),
    hedged: (outcome) => hedges.inc({ outcome }),
    moved: (outcome) => moves.inc({ outcome }),
    attempted: (outcome) => attempts.inc({ outcome }),
    watch: (name, help, read) => addGauge(registry, name, help, read),
    text: async () => ({ body: await registry.metrics(), contentType: registry.contentType }),
  };
}

function addGauge(registry: Registry, name: string, help: string, read: () => number): void {
  const instrument = new Gauge({
    name,
    help,
    registers: [registry],
    collect() {
      instrument.set(read());
    },
  });
}

function addGauges(registry: Registry, directory: Directory, waitingRoom: WaitingRoom): void {
  const gauge = (name: string, help: string, read: () => number): void =>
    addGauge(registry, name, help, read);
  const sum = (read: (entry: Directory["entries"][number]) => number): number =>
    directory.entries.reduce((total, entry) => total + read(entry), 0);
  gauge("skein_providers", "Providers joined now.", () => directory.entries.length);
  const byState = new Gauge({
    name: "skein_provider_state",
    help: "Providers joined now, by state.",
    labelNames: ["state"],
    registers: [registry],
    collect() {
      for (const state of providerStates) {
        byState.set(
          { state },
          sum((entry) => Number(stateOf(entry).state === state)),
        );
      }
    },
  });
  const keptFree = ({ parallelMax }: ModelOffer): number =>
    parallelMax - slotsFor(parallelMax, false, directory.policy.headroom);
  gauge("skein_headroom_slots", "Slots kept free for answers that lose their provider.", () =>
    sum(({ models }) => models.reduce((total, offer) => total + keptFree(offer), 0)),
  );
  gauge("skein_attempts_in_flight", "Attempts running now.", () => sum((entry) => entry.inFlight));
  gauge(
    "skein_requests_waiting",
    "Choices that wait here because every provider is full.",
    () => waitingRoom.length,
  );
  gauge("skein_provider_queue", "Requests waiting at providers, as they report.", () =>
    sum((entry) => entry.session.status.queued),
  );
}
