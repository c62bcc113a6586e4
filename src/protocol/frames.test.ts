import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromHex, toHex } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";
import { coordinateDimensions, coordinateErrorMax, coordinateMaxMs } from "./coordinate.ts";
import { decodeFrame, encodeFrame, type Frame } from "./frames.ts";
import { greedySampling, toolCallsMax, toolParametersCharsMax, toolsMax } from "./generate.ts";
import { promptSchema } from "./messages.ts";

const u32 = fc.nat(0xffff_ffff);
const stream = u32;
const unicode = fc.string({ unit: "binary", maxLength: 40 }).filter((text) => text.isWellFormed());
const nonce = fc.uint8Array({ minLength: 32, maxLength: 32 });
const milliseconds = fc.nat(1_000_000);

const hash = fc.uint8Array({ minLength: 32, maxLength: 32 });
const signature64 = fc.uint8Array({ minLength: 64, maxLength: 64 });
const bounded = (min: number, max: number): fc.Arbitrary<number> => fc.double({ min, max, noNaN: true });
const coordinate = fc.record({
  positionMs: fc.array(bounded(-coordinateMaxMs, coordinateMaxMs), {
    minLength: coordinateDimensions,
    maxLength: coordinateDimensions,
  }),
  heightMs: bounded(0, coordinateMaxMs),
  error: bounded(0, coordinateErrorMax),
});
const frames: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({
    type: fc.constant("hello" as const),
    body: fc.record({
      version: fc.nat(1000),
      role: fc.constantFrom("gateway" as const, "provider" as const),
      nonce,
      software: fc.constant("skein/test"),
    }),
  }),
  fc.record({
    type: fc.constantFrom("proof" as const, "welcome" as const),
    body: fc.record({ proof: fc.option(nonce) }),
  }),
  fc.record({
    type: fc.constantFrom("refused" as const, "goodbye" as const),
    body: fc.record({ reason: unicode }),
  }),
  fc.record({ type: fc.constantFrom("ping" as const, "pong" as const), body: fc.record({ id: u32 }) }),
  fc.record({ type: fc.constant("pong" as const), body: fc.record({ id: u32, coordinate }) }),
  fc.record({
    type: fc.constant("status" as const),
    body: fc.record({ active: u32, queued: u32, ready: fc.boolean(), reason: unicode }),
  }),
  fc.record({
    type: fc.constant("offer" as const),
    body: fc.record({ payload: fc.uint8Array(), signature: fc.uint8Array() }),
  }),
  fc.record({
    type: fc.constant("generate" as const),
    stream,
    body: fc.record({
      requestId: fc.constant("r"),
      modelId: fc.constant("m"),
      prompt: fc.oneof(
        fc.record({
          kind: fc.constant("chat" as const),
          messages: fc.array(fc.record({ role: fc.constant("user" as const), content: unicode }), {
            minLength: 1,
            maxLength: 3,
          }),
        }),
        fc.record({ kind: fc.constant("text" as const), text: unicode }),
        fc.record({ kind: fc.constant("tokens" as const), tokenIds: fc.array(u32) }),
      ),
      emitted: fc.record({ tokenIds: fc.array(u32), text: unicode }),
      sampling: fc.record({
        ...mapConstant(greedySampling),
        temperature: fc.double({ min: 0, max: 2, noNaN: true }),
        logitBias: fc.uniqueArray(fc.tuple(u32, fc.double({ min: -100, max: 100, noNaN: true })), {
          selector: ([id]) => id,
        }),
        seed: u32,
      }),
      stop: fc.array(
        unicode.filter((text) => text !== ""),
        { maxLength: 4 },
      ),
      constraint: fc.option(
        fc.record({ grammar: fc.constant('root ::= "a"'), responseFormat: fc.option(unicode) }),
      ),
      logprobs: fc.option(fc.nat(20)),
      outputTokensMax: fc.option(fc.integer({ min: 1, max: 1e9 })),
      timeoutMs: milliseconds,
    }),
  }) as fc.Arbitrary<Frame>,
  fc.record({
    type: fc.constant("credit" as const),
    stream,
    body: fc.record({ events: fc.integer({ min: 1, max: 1000 }) }),
  }),
  fc.record({ type: fc.constant("cancel" as const), stream, body: fc.constant({}) }),
  fc.record({
    type: fc.constant("start" as const),
    stream,
    body: fc.record({ promptTokens: u32, cachedTokens: u32 }),
  }),
  fc.record({
    type: fc.constant("end" as const),
    stream,
    body: fc.record({
      finishReason: fc.constantFrom("stop" as const, "length" as const),
      promptTokens: u32,
      outputTokens: u32,
      timings: fc.record({ queueMs: milliseconds, prefillMs: milliseconds, decodeMs: milliseconds }),
    }),
  }),
  fc.record({
    type: fc.constant("error" as const),
    stream,
    body: fc.record({
      code: unicode,
      message: unicode,
      hint: fc.option(unicode),
      param: fc.option(unicode),
      retry: fc.constantFrom("here" as const, "elsewhere" as const, "never" as const),
    }),
  }),
  fc.record({
    type: fc.constant("checkpoint" as const),
    stream,
    body: fc.record({ position: u32, positions: u32, chain: hash, signature: signature64 }),
  }),
  fc.record({
    type: fc.constant("receipt" as const),
    stream,
    body: fc.record({ encoded: fc.uint8Array({ maxLength: 100 }) }),
  }),
  fc.record({
    type: fc.constant("trace" as const),
    stream,
    body: fc.record({
      modelId: fc.string({ minLength: 1, maxLength: 20 }),
      sequence: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      tokenIds: fc.array(u32, { maxLength: 20 }),
      position: fc.option(u32),
    }),
  }),
  fc.record({
    type: fc.constant("traced" as const),
    stream,
    body: fc.record({
      rows: fc.uint8Array({ maxLength: 100 }),
      leaves: fc.option(fc.uint8Array({ maxLength: 40 })),
    }),
  }),
  fc.record({
    type: fc.constant("embed" as const),
    stream,
    body: fc.record({
      requestId: fc.string({ minLength: 1, maxLength: 20 }),
      modelId: fc.string({ minLength: 1, maxLength: 20 }),
      inputs: fc.array(
        fc.oneof(
          fc.record({ kind: fc.constant("text" as const), text: unicode }),
          fc.record({ kind: fc.constant("tokens" as const), tokenIds: fc.array(u32, { maxLength: 20 }) }),
        ),
        { minLength: 1, maxLength: 32 },
      ),
      dimensions: fc.option(fc.integer({ min: 1, max: 16_384 })),
      timeoutMs: milliseconds,
    }),
  }),
  fc.record({
    type: fc.constant("embedded" as const),
    stream,
    body: fc.record({
      vectors: fc.array(
        fc.nat(5).chain((size) => fc.uint8Array({ minLength: 4 * size, maxLength: 4 * size })),
        { minLength: 1, maxLength: 32 },
      ),
      promptTokens: u32,
      durationMs: fc.nat(1e9),
    }),
  }),
  fc.record({
    type: fc.constant("tokens" as const),
    stream,
    position: u32,
    tokenCount: fc.nat(0xffff),
    tokenIds: fc.array(u32, { maxLength: 20 }),
    text: unicode,
  }),
);

function mapConstant<T extends object>(values: T): { [K in keyof T]: fc.Arbitrary<T[K]> } {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, fc.constant(value)])) as {
    [K in keyof T]: fc.Arbitrary<T[K]>;
  };
}

test("what is encoded is decoded to the same, and has one encoding", () => {
  fc.assert(
    fc.property(frames, (frame) => {
      const bytes = encodeFrame(frame);
      const decoded = decodeFrame(bytes);
      assert.deepEqual(normal(decoded), normal(frame));
      assert.deepEqual(encodeFrame(decoded), bytes);
    }),
    { numRuns: 1000 },
  );
});

/** Buffers, null prototypes and -0 aside. */
function normal(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, item: unknown) => (item instanceof Uint8Array ? toHex(item) : item)),
  );
}

test("golden frames: another implementation must produce these bytes", () => {
  const golden: [Frame, string][] = [
    [{ type: "ping", body: { id: 7 } }, "08a162696407"],
    [
      {
        type: "pong",
        body: { id: 7, coordinate: { positionMs: [1.5, -2, 0], heightMs: 3, error: 0.25 } },
      },
      "09a2626964076a636f6f7264696e617465a3656572726f72f93400686865696768744d73036a706f736974696f6e4d7383f93e002100",
    ],
    [{ type: "cancel", stream: 258, body: {} }, "1300000102a0"],
    [
      { type: "tokens", stream: 1, position: 2, tokenCount: 1, tokenIds: [65_537], text: "hé" },
      "210000000100000002000100010001000168c3a9",
    ],
    [
      { type: "start", stream: 3, body: { promptTokens: 10, cachedTokens: 4 } },
      "2000000003a26c636163686564546f6b656e73046c70726f6d7074546f6b656e730a",
    ],
  ];
  for (const [frame, hex] of golden) {
    assert.equal(toHex(encodeFrame(frame)), hex);
    assert.deepEqual(normal(decodeFrame(fromHex(hex))), normal(frame));
  }
});

const isViolation = (error: unknown): boolean =>
  error instanceof SkeinError && error.code === "protocol_violation";

test("any bytes are a frame or a protocol violation, nothing else", () => {
  const types = [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 18, 19, 20, 32, 33, 34, 35, 36, 37, 38, 39];
  const bytes = fc.tuple(fc.constantFrom(...types, 0, 99), fc.uint8Array({ maxLength: 100 }));
  fc.assert(
    fc.property(bytes, ([type, rest]) => {
      try {
        decodeFrame(Uint8Array.of(type, ...rest));
      } catch (error) {
        assert.ok(isViolation(error), String(error));
      }
    }),
    { numRuns: 5000 },
  );
  assert.throws(() => decodeFrame(new Uint8Array(0)), isViolation);
});

test("a changed byte of a good frame is noticed or gives another good frame with one encoding", () => {
  fc.assert(
    fc.property(frames, fc.nat(), fc.integer({ min: 1, max: 255 }), (frame, at, flip) => {
      const bytes = encodeFrame(frame);
      bytes[at % bytes.length]! ^= flip;
      try {
        assert.deepEqual(encodeFrame(decodeFrame(bytes)), bytes);
      } catch (error) {
        assert.ok(isViolation(error), String(error));
      }
    }),
    { numRuns: 3000 },
  );
});

test("an empty byte string is no empty message", () => {
  const bytes = encodeFrame({ type: "cancel", stream: 1, body: {} });
  assert.equal(bytes.at(-1), 0xa0);
  bytes[bytes.length - 1] = 0x40;
  assert.throws(() => decodeFrame(bytes), isViolation);
});

test("lengths that lie about themselves allocate nothing", () => {
  // A byte string that claims 2^40 bytes, and an array that claims 2^32 items.
  for (const hex of ["06a2677061796c6f61645b0000010000000000", "10000000019b0000000100000000"]) {
    assert.throws(() => decodeFrame(fromHex(hex)), isViolation);
  }
  assert.throws(() => decodeFrame(fromHex("2100000001000000020001ffff")), isViolation);
});

test("functions and calls in a prompt are bounded, and one way to say that there are none", () => {
  const message = { role: "user" as const, content: "a" };
  const tool = { name: "f", parameters: "{}" };
  const call = { id: "1", name: "f", arguments: "{}" };
  const isTaken = (more: object, inMessage: object = {}): boolean =>
    promptSchema.safeParse({ kind: "chat", messages: [{ ...message, ...inMessage }], ...more }).success;
  assert.ok(isTaken({ tools: [tool], thinks: false }, { toolCalls: [call], toolCallId: "1" }));
  const manyTools = Array.from({ length: toolsMax + 1 }, (_, i) => ({ ...tool, name: `f${i}` }));
  assert.ok(isTaken({ tools: manyTools.slice(1) }));
  for (const more of [
    { tools: [] },
    { tools: [tool, tool] },
    { tools: manyTools },
    { tools: [{ ...tool, parameters: " ".repeat(toolParametersCharsMax + 1) }] },
    { tools: [{ ...tool, name: "f".repeat(65) }] },
    { tools: [{ ...tool, strict: true }] },
    { thinks: true },
  ]) {
    assert.ok(!isTaken(more));
  }
  const manyCalls = Array.from({ length: toolCallsMax + 1 }, () => call);
  for (const inMessage of [{ toolCalls: [] }, { toolCalls: manyCalls }, { toolCallId: "" }]) {
    assert.ok(!isTaken({}, inMessage));
  }
});
