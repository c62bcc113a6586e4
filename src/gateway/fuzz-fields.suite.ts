/** What every endpoint takes: its fields, each with values that are right. The gateway is fuzzed from here. */
import fc, { type Arbitrary } from "fast-check";

export interface FuzzedEndpoint {
  readonly method: "POST" | "GET" | "DELETE";
  /** `:id` stands for some id. */
  readonly path: string;
  readonly required: Readonly<Record<string, Arbitrary<unknown>>>;
  readonly optional: Readonly<Record<string, Arbitrary<unknown>>>;
}

const text = fc.string({ minLength: 1, maxLength: 20, unit: "grapheme" });
const model = fc.constant("naive");
const seconds = fc.integer({ min: 3_600, max: 2_592_000 });
const metadata = fc.dictionary(fc.string({ minLength: 1, maxLength: 5, unit: "grapheme-ascii" }), text, {
  maxKeys: 3,
});
const skein = fc.record(
  {
    allow_other_models: fc.boolean(),
    private: fc.boolean(),
    region: fc.constant("test"),
    max_price: fc.constant({ input: "10", output: "10" }),
    max_ttft_ms: fc.integer({ min: 1_000, max: 600_000 }),
    deny: fc.array(text, { maxLength: 2 }),
  },
  { requiredKeys: [] },
);
const parts = fc.array(fc.record({ type: fc.constant("text"), text }), { minLength: 1, maxLength: 2 });
const message = fc.record({
  role: fc.constantFrom("user", "assistant", "system"),
  content: fc.oneof(text, parts),
});
const messages = fc.array(message, { minLength: 1, maxLength: 3 });
const stop = fc.oneof(text, fc.array(text, { maxLength: 4 }));
const tokenIds = fc.array(fc.nat(50), { minLength: 1, maxLength: 5 });
const sampling = {
  temperature: fc.double({ min: 0, max: 1, noNaN: true }),
  top_p: fc.double({ min: 0, max: 1, noNaN: true }),
};
const more = {
  top_k: fc.nat(100),
  min_p: fc.double({ min: 0, max: 1, noNaN: true }),
  presence_penalty: fc.double({ min: -2, max: 2, noNaN: true }),
  frequency_penalty: fc.double({ min: -2, max: 2, noNaN: true }),
  logit_bias: fc.dictionary(fc.nat(9).map(String), fc.integer({ min: -100, max: 100 }), { maxKeys: 3 }),
  seed: fc.maxSafeInteger(),
  n: fc.integer({ min: 1, max: 3 }),
  stop,
  max_tokens: fc.integer({ min: 1, max: 20 }),
  stream: fc.boolean(),
  stream_options: fc.record({ include_usage: fc.boolean() }),
  service_tier: fc.constant("auto"),
  user: text,
  response_format: fc.constant({ type: "text" }),
  skein,
};
const chat = {
  required: { model, messages },
  optional: { ...sampling, ...more, metadata, store: fc.boolean() },
};
const completion = {
  required: { model, prompt: fc.oneof(text, tokenIds, fc.array(text, { minLength: 1, maxLength: 3 })) },
  optional: { ...sampling, ...more },
};
const responses = {
  required: { model, input: fc.oneof(text, fc.array(message, { minLength: 1, maxLength: 2 })) },
  optional: {
    ...sampling,
    instructions: text,
    metadata,
    store: fc.boolean(),
    stream: fc.boolean(),
    max_output_tokens: fc.integer({ min: 16, max: 40 }),
    text: fc.constant({ format: { type: "text" } }),
    user: text,
    truncation: fc.constant("disabled"),
  },
};
const turns = fc
  .array(text, { minLength: 1, maxLength: 2 })
  .map((asked) =>
    asked.flatMap((content, i) => [
      ...(i > 0 ? [{ role: "assistant", content: "yes" }] : []),
      { role: "user", content },
    ]),
  );
const messagesOf = {
  required: { model, messages: turns, max_tokens: fc.integer({ min: 1, max: 20 }) },
  optional: {
    ...sampling,
    top_k: fc.nat(100),
    system: fc.oneof(text, parts),
    stop_sequences: fc.array(text, { maxLength: 4 }),
    stream: fc.boolean(),
    metadata: fc.record({ user_id: text }),
  },
};
const none = { required: {}, optional: {} };
const query = {
  required: {},
  optional: { limit: fc.integer({ min: 1, max: 100 }).map(String), order: fc.constant("asc"), after: text },
};

const post = (path: string, fields: Pick<FuzzedEndpoint, "required" | "optional">): FuzzedEndpoint => ({
  method: "POST",
  path,
  ...fields,
});
const get = (path: string, fields: Pick<FuzzedEndpoint, "required" | "optional"> = none): FuzzedEndpoint => ({
  method: "GET",
  path,
  ...fields,
});
const remove = (path: string): FuzzedEndpoint => ({ method: "DELETE", path, ...none });

/** All of the gateway's but for forms (files and parts of uploads), which have tests of their own. */
export const fuzzedEndpoints: readonly FuzzedEndpoint[] = [
  post("/v1/chat/completions", chat),
  post("/v1/completions", {
    ...completion,
    optional: { ...completion.optional, echo: fc.boolean(), suffix: text },
  }),
  post("/v1/embeddings", {
    required: {
      model,
      input: fc.oneof(
        text,
        tokenIds,
        fc.array(text, { minLength: 1, maxLength: 3 }),
        fc.array(tokenIds, { minLength: 1, maxLength: 3 }),
      ),
    },
    optional: {
      encoding_format: fc.constantFrom("float", "base64"),
      dimensions: fc.integer({ min: 1, max: 16 }),
      user: text,
      skein,
    },
  }),
  post("/v1/quote", chat),
  post("/v1/count_tokens", chat),
  post("/v1/responses", responses),
  post("/v1/responses/input_tokens", { required: responses.required, optional: { instructions: text } }),
  post("/v1/messages", messagesOf),
  post("/v1/messages/count_tokens", { required: { model, messages: turns }, optional: { system: text } }),
  post("/v1/batches", {
    required: {
      input_file_id: text,
      endpoint: fc.constant("/v1/chat/completions"),
      completion_window: fc.constant("24h"),
    },
    optional: { metadata, output_expires_after: fc.record({ anchor: fc.constant("created_at"), seconds }) },
  }),
  post("/v1/uploads", {
    required: {
      filename: text,
      purpose: fc.constantFrom("batch", "user_data"),
      bytes: fc.integer({ min: 1, max: 1_000 }),
      mime_type: fc.constant("application/jsonl"),
    },
    optional: { expires_after: fc.record({ anchor: fc.constant("created_at"), seconds }) },
  }),
  post("/v1/uploads/:id/complete", {
    required: { part_ids: fc.array(text, { minLength: 1, maxLength: 3 }) },
    optional: { md5: fc.constant("d41d8cd98f00b204e9800998ecf8427e") },
  }),
  post("/v1/uploads/:id/cancel", none),
  post("/v1/chat/completions/:id", { required: { metadata }, optional: {} }),
  post("/v1/responses/:id/cancel", none),
  post("/v1/batches/:id/cancel", none),
  post("/skein/v1/audits", {
    required: {},
    optional: { object: fc.constant("receipt"), version: fc.constant(1) },
  }),
  get("/v1/models"),
  get("/v1/models/:id{.+}"),
  get("/v1/chat/completions", query),
  get("/v1/chat/completions/:id"),
  get("/v1/chat/completions/:id/messages", query),
  get("/v1/responses/:id"),
  get("/v1/responses/:id/input_items", query),
  get("/v1/files", query),
  get("/v1/files/:id"),
  get("/v1/files/:id/content"),
  get("/v1/batches", query),
  get("/v1/batches/:id"),
  get("/v1/requests/:id"),
  get("/v1/requests/:id/events"),
  get("/v1/requests/:id/receipt"),
  get("/skein/v1/gateway"),
  get("/skein/v1/providers"),
  get("/skein/v1/providers/:id"),
  get("/skein/v1/audits", query),
  get("/skein/v1/audits/:receipt"),
  get("/skein/v1/beacons", query),
  get("/healthz"),
  get("/metrics"),
  remove("/v1/chat/completions/:id"),
  remove("/v1/responses/:id"),
  remove("/v1/files/:id"),
  remove("/v1/requests/:id/events"),
];

/** Read as forms, not as JSON. */
export const forms: readonly string[] = ["/v1/files", "/v1/uploads/:id/parts"];
