/** The gateway over real sessions: whatever a client sends, no session ends for it. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { createNaiveEngine, naiveDefaults } from "../engine/naive.ts";
import { acceptProviderSession } from "../network/gateway-session.ts";
import { createSigner, providerIdOfSeed } from "../network/identity.ts";
import { MemoryHub } from "../network/memory.ts";
import { openGatewaySession } from "../network/provider-session.ts";
import type { ProviderSession } from "../network/session.ts";
import { freePriceSheet } from "../protocol/price.ts";
import { signOffer } from "../protocol/signing.ts";
import { systemClock } from "../util/clock.ts";
import { silentLogger } from "../util/log.ts";
import { seededRandom } from "../util/random.ts";
import { testGateway, type TestGateway } from "./fixture.suite.ts";

const deps = { clock: systemClock, random: seededRandom(1), log: silentLogger };
const hub = new MemoryHub();
const engine = createNaiveEngine(
  { clock: systemClock },
  { ...naiveDefaults, contextTokensMax: 2_000_000, features: ["tools"] },
);
let setup: TestGateway;
let session: ProviderSession;

async function status(path: string): Promise<number> {
  return (await setup.get(path)).status;
}

const anyText = fc.string({ unit: "binary", maxLength: 20 });
const any = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: undefined });
const anyContent = fc.oneof(
  anyText,
  fc.array(fc.record({ type: fc.constant("text"), text: anyText }), { minLength: 1 }),
);
const message = fc.record({
  role: fc.constantFrom("system", "developer", "user", "assistant"),
  content: anyContent,
  name: any(anyText),
});
const functionName = fc.stringMatching(/^[\w-]{1,64}$/);
const callAndAnswer = fc
  .record({
    id: fc.string({ minLength: 1, unit: "binary" }),
    name: functionName,
    text: anyText,
    content: anyContent,
  })
  .map(({ id, name, text, content: answer }) => [
    { role: "assistant", tool_calls: [{ id, type: "function", function: { name, arguments: text } }] },
    { role: "tool", tool_call_id: id, content: answer },
  ]);
const tools = fc.uniqueArray(
  fc.record({
    name: functionName,
    description: any(anyText),
    parameters: fc.constantFrom({ type: "object" }, undefined, { properties: { a: { type: "null" } } }),
  }),
  { selector: ({ name }) => name, maxLength: 3 },
);
const body = fc.record({
  model: fc.constant("naive"),
  messages: fc
    .array(
      fc.oneof(
        message.map((each) => [each]),
        callAndAnswer,
      ),
      { minLength: 1, maxLength: 4 },
    )
    .map((turns) => turns.flat()),
  tools: any(tools.map((all) => all.map((each) => ({ type: "function", function: each })))),
  temperature: any(fc.double({ min: 0, max: 2, noNaN: true })),
  top_p: any(fc.double({ min: 0, max: 1, noNaN: true })),
  min_p: any(fc.double({ min: 0, max: 1, noNaN: true })),
  top_k: any(fc.nat(1_000_000)),
  presence_penalty: any(fc.double({ min: -2, max: 2, noNaN: true })),
  logit_bias: any(fc.dictionary(fc.nat(13).map(String), fc.double({ min: -100, max: 100, noNaN: true }))),
  seed: any(fc.maxSafeInteger()),
  stop: any(
    fc.oneof(
      fc.string({ minLength: 1 }),
      fc.array(fc.string({ unit: "binary", minLength: 1 }), { maxLength: 4 }),
    ),
  ),
  max_tokens: any(fc.oneof(fc.integer({ min: 1, max: 50 }), fc.constant(Number.MAX_SAFE_INTEGER))),
  n: any(fc.integer({ min: 1, max: 4 })),
  stream: any(fc.boolean()),
});

describe("over a real session", () => {
  before(async () => {
    const seed = seededRandom(22).bytes(32);
    const signer = await createSigner(seed);
    const providerId = await providerIdOfSeed(seed);
    const server = hub.create(await providerIdOfSeed(seededRandom(21).bytes(32)));
    const client = hub.create(providerId);
    const accepted = new Promise<ProviderSession>((resolve, reject) => {
      server.onConnection((connection) => {
        const facts = { gatewayId: server.peerId, policy: { kind: "open" } as const, software: "test" };
        acceptProviderSession(deps, connection, facts).then(resolve, reject);
      });
    });
    const connection = await client.dial(server.addresses()[0]!, AbortSignal.timeout(5_000));
    const facts = { providerId, token: null, software: "test" };
    const provider = await openGatewaySession(deps, connection, facts, {
      generate: (request, signal) => engine.generate(request, signal),
      countPromptTokens: (_, prompt, signal) => engine.countPromptTokens(prompt, signal),
    });
    session = await accepted;
    setup = testGateway();
    setup.gateway.addSession(session);
    const nowMs = Date.now();
    const models = [{ ...engine.model, engine: engine.kind, price: freePriceSheet }];
    const offer = {
      providerId,
      sequence: 1,
      issuedAtMs: nowMs,
      expiresAtMs: nowMs + 60_000,
      region: "",
      models,
    };
    provider.sendOffer(await signOffer(signer, offer));
    provider.sendStatus({ active: 0, queued: 0, ready: true, reason: "" });
    for (let i = 0; i < 200 && (await status("/v1/models/naive")) !== 200; i++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });

  after(() => setup.gateway.close());

  test("every valid request passes the session", async () => {
    await fc.assert(
      fc.asyncProperty(body, async (given) => {
        const response = await setup.post("/v1/chat/completions", given);
        const text = await response.text();
        assert.equal(response.status, 200, text);
        assert.equal(given.stream === true, text.endsWith("data: [DONE]\n\n"));
        assert.equal(session.closed, false);
      }),
      { numRuns: 100 },
    );
  });

  test("prompts up to the limit pass, larger ones never reach the session", async () => {
    const content = "x".repeat(3 * 1024 * 1024 - 100);
    const ask = async (path: string, given: object): Promise<number> =>
      (await setup.post(path, { model: "naive", max_tokens: 1, ...given })).status;
    assert.equal(await ask("/v1/chat/completions", { messages: [{ role: "user", content }] }), 200);
    assert.equal(await ask("/v1/completions", { prompt: Array(600_000).fill(70_000) }), 200);
    assert.equal(await ask("/v1/completions", { prompt: Array(700_000).fill(70_000) }), 413);
    assert.equal(await ask("/v1/completions", { prompt: "🪿".repeat(1024 * 1024) }), 413);
    assert.equal(await ask("/v1/quote", { prompt: "🪿".repeat(1024 * 1024) }), 413);
    assert.equal(session.closed, false);
  });
});
