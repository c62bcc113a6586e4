/**
 * Every endpoint, fuzzed from its fields: whatever comes is answered soon, never with a 500, always in the endpoint's shape of
 * errors, and where one field was made wrong, `param` names it. A failing seed is printed.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc, { type Arbitrary } from "fast-check";
import { type TestGateway, testGateway } from "./fixture.suite.ts";
import { forms, type FuzzedEndpoint, fuzzedEndpoints } from "./fuzz-fields.suite.ts";

/** A hang, on a loaded machine, too. */
const answerTimeoutMs = 20_000;

let own: TestGateway;
before(async () => {
  own = testGateway();
  await own.add("p1", { answerTokens: 2 });
});
after(() => own.gateway.close());

const deep = (depth: number): unknown => Array.from({ length: depth }).reduce((inner) => [inner], 0);

/** Values that are wrong nearly everywhere. */
const junk: Arbitrary<unknown> = fc.oneof(
  fc.constantFrom(
    null,
    true,
    false,
    0,
    -1,
    1.5,
    2 ** 53,
    -(2 ** 63),
    1e300,
    5e-324,
    "",
    " ",
    "null",
    "\0",
    "__proto__",
  ),
  fc.constantFrom<unknown>([], {}, [[]], [null], [{}], { "": "" }, { constructor: 1 }, { type: "x" }, [
    { type: 1 },
  ]),
  fc.string({ unit: "binary", maxLength: 30 }),
  fc.constantFrom("x".repeat(100_000), "\ud800", "🪿".repeat(1_000), "‮‏"),
  fc.integer({ min: 1, max: 3_000 }).map(deep),
  fc.jsonValue({ maxDepth: 3 }),
);

/** Of which nothing right is made up here. */
const hard = [
  "tools",
  "tool_choice",
  "thinking",
  "reasoning",
  "reasoning_effort",
  "logprobs",
  "best_of",
  "include",
];

type Body = Record<string, unknown>;

function rightBody({ required, optional }: FuzzedEndpoint): Arbitrary<Body> {
  return fc.record({ ...required, ...optional }, { requiredKeys: Object.keys(required) }) as Arbitrary<Body>;
}

/** Something inside a value is another one. */
function changed(value: unknown, at: readonly number[], by: unknown): unknown {
  const [step, ...rest] = at;
  if (step === undefined || typeof value !== "object" || value === null) return by;
  const keys = Object.keys(value);
  if (keys.length === 0) return by;
  const key = keys[step % keys.length]!;
  const inner = changed((value as Body)[key], rest, by);
  return Array.isArray(value)
    ? value.map((item, i) => (String(i) === key ? inner : (item as unknown)))
    : { ...value, [key]: inner };
}

interface Change {
  readonly field: number;
  readonly at: readonly number[];
  readonly by: unknown;
  readonly leavesOut: boolean;
}

const change: Arbitrary<Change> = fc.record({
  field: fc.nat(),
  at: fc.array(fc.nat(5), { maxLength: 3 }),
  by: junk,
  leavesOut: fc.boolean(),
});

function apply(
  body: Body,
  fields: readonly string[],
  { field, at, by, leavesOut }: Change,
): { body: Body; name: string } {
  const name = fields[field % fields.length]!;
  if (leavesOut && at.length === 3) {
    const { [name]: _, ...rest } = body;
    return { body: rest, name };
  }
  return { body: { ...body, [name]: changed(body[name], at, by) }, name };
}

async function send({ method, path }: FuzzedEndpoint, body: unknown, id: string): Promise<Response> {
  const to = path.replace(/:\w+(\{.*\})?/, encodeURIComponent(id.toWellFormed()));
  if (method === "POST") return own.post(to, body);
  const query = new URLSearchParams(
    Object.entries(body as Body).map(([key, value]): [string, string] => [key, String(value).toWellFormed()]),
  );
  const url = `http://127.0.0.1:4141${to}?${query.toString().slice(0, 4_000)}`;
  return own.gateway.fetch(new Request(url, { method }));
}

interface Failure {
  readonly message: string;
  readonly code: string;
  readonly param: string | null;
}

/** Null: it was answered. */
async function outcome(endpoint: FuzzedEndpoint, body: unknown, id: string): Promise<Failure | null> {
  const late = AbortSignal.timeout(answerTimeoutMs);
  const hang = new Promise<never>((_, reject) =>
    late.addEventListener("abort", () => reject(new Error(`${endpoint.path} hangs`)), { once: true }),
  );
  const answering = send(endpoint, body, id).then(
    async (response) => [response.status, await response.text()] as const,
  );
  const [status, text] = await Promise.race([answering, hang]);
  // Nobody may fit what is asked of providers.
  const isServed = status < 500 || text.includes('"code":"no_provider"');
  assert.ok(isServed, `${endpoint.method} ${endpoint.path} ${status} ${text.slice(0, 300)}`);
  if (status < 400) return null;
  const { error, type } = JSON.parse(text) as { error: Failure & { type: string }; type?: string };
  assert.ok(error.message.length > 0 && error.message.length < 2_000, "a message that can be read");
  assert.equal(typeof error.type, "string");
  assert.equal(typeof error.code, "string");
  assert.ok(error.param === null || typeof error.param === "string");
  assert.equal(type === "error", endpoint.path.startsWith("/v1/messages"));
  return error;
}

const ids = fc.oneof(
  fc.constantFrom("x", "..", "%", "naive", "__proto__", "x".repeat(300)),
  fc.string({ unit: "binary", minLength: 1, maxLength: 20 }),
);
const { length } = fuzzedEndpoints;

test("what is right is answered, or its id is unknown", async () => {
  const unknown = ["not_found", "model_not_found", "invalid_request"];
  const right = fc.nat(length - 1).chain((i) => fc.tuple(fc.constant(i), rightBody(fuzzedEndpoints[i]!)));
  await fc.assert(
    fc.asyncProperty(right, async ([i, body]) => {
      const endpoint = fuzzedEndpoints[i]!;
      const error = await outcome(endpoint, body, "none-0");
      const mayFail = /:id|:receipt|batches|audits|order|after/.test(
        endpoint.path + JSON.stringify(Object.keys(body)),
      );
      const needsMore = error?.param === "suffix" || error?.param === "echo";
      if (error !== null && error.code !== "no_provider")
        assert.ok((mayFail && unknown.includes(error.code)) || needsMore, JSON.stringify(error));
    }),
    { numRuns: 150 },
  );
});

test("one wrong field is named", async () => {
  const posts = fuzzedEndpoints.filter(({ method, required, optional }) => {
    return method === "POST" && Object.keys({ ...required, ...optional }).length > 0;
  });
  const one = fc.nat(posts.length - 1).chain((i) => fc.tuple(fc.constant(i), rightBody(posts[i]!), change));
  await fc.assert(
    fc.asyncProperty(one, async ([i, right, what]) => {
      const endpoint = posts[i]!;
      const fields = Object.keys({ ...endpoint.required, ...endpoint.optional });
      const { body, name } = apply(right, fields, what);
      const error = await outcome(endpoint, body, "none-0");
      if (error === null || !["invalid_request", "unsupported_parameter"].includes(error.code)) return;
      // What was wrong before is no matter of this change.
      if ((await outcome(endpoint, right, "none-0"))?.code === error.code) return;
      // A prompt that became token ids is right by itself.
      if (name === "prompt" && error.param === "suffix") return;
      assert.equal(error.param?.split(".")[0], name, `${endpoint.path}: ${error.message}`);
    }),
    { numRuns: 500 },
  );
});

test("anything at all is answered", async () => {
  const any = fc.nat(length - 1).chain((i) => {
    const endpoint = fuzzedEndpoints[i]!;
    const wild = fc.oneof(
      { weight: 1, arbitrary: fc.record({ body: junk }) },
      {
        weight: 4,
        arbitrary: fc.record({
          body: rightBody(endpoint),
          changes: fc.array(change, { minLength: 2, maxLength: 5 }),
        }),
      },
    );
    return fc.tuple(fc.constant(i), wild, ids);
  });
  await fc.assert(
    fc.asyncProperty(any, async ([i, given, id]) => {
      const endpoint = fuzzedEndpoints[i]!;
      const named = Object.keys({ ...endpoint.required, ...endpoint.optional });
      const fields = [...named, ...hard, "unknown"];
      const changes = "changes" in given ? given.changes : [];
      const body = changes.reduce<unknown>((so, what) => apply(so as Body, fields, what).body, given.body);
      await outcome(endpoint, endpoint.method === "POST" ? body : Object(body), id);
    }),
    { numRuns: 400 },
  );
});

test("every endpoint of the gateway is fuzzed", () => {
  const known = new Set([
    ...fuzzedEndpoints.map(({ method, path }) => `${method} ${path}`),
    ...forms.map((path) => `POST ${path}`),
  ]);
  const served = own.gateway.endpoints.map(({ method, path }) => `${method} ${path}`);
  assert.deepEqual(
    served.filter((endpoint) => !known.has(endpoint)),
    [],
  );
  assert.deepEqual(
    [...known].filter((endpoint) => !served.includes(endpoint)),
    [],
  );
});
