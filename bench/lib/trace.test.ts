import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { seededRandom } from "../../src/util/random.ts";
import { syntheticTrace } from "./synthetic-trace.ts";
import { cacheBound, parseTrace, readTrace, traceBlockTokens } from "./trace.ts";

const header = "TIMESTAMP,ContextTokens,GeneratedTokens";
const mooncake = (line: object): string =>
  JSON.stringify({ timestamp: 0, input_length: 600, output_length: 5, hash_ids: [1, 2], ...line });

test("Azure's trace: times since the first request, lengths", () => {
  const text = `${header}\n2023-11-16 23:59:59.6805900,374,44\r\n2023-11-17 00:00:01,7,1\n`;
  const [first, second, ...others] = parseTrace(text);
  assert.deepEqual(first, { atMs: 0, promptTokens: 374, outputTokens: 44, blocks: null });
  assert.equal(Math.round(second!.atMs * 100), 131_941);
  assert.deepEqual({ ...second, atMs: 0 }, { atMs: 0, promptTokens: 7, outputTokens: 1, blocks: null });
  assert.equal(others.length, 0);
});

test("Mooncake's trace: times, lengths, blocks", () => {
  const text = [mooncake({ timestamp: 50 }), mooncake({ timestamp: 90, input_length: 512, hash_ids: [9] })];
  assert.deepEqual(parseTrace(text.join("\n")), [
    { atMs: 0, promptTokens: 600, outputTokens: 5, blocks: [1, 2] },
    { atMs: 40, promptTokens: 512, outputTokens: 5, blocks: [9] },
  ]);
});

test("whatever is wrong is said, with its line", () => {
  const wrong: [string, RegExp][] = [
    ["", /line 1 is neither/],
    ["a,b,c\n1,2,3", /line 1 is neither/],
    [header, /no request/],
    [`${header}\n\n`, /line 2: "" is not/],
    [`${header}\n2023-11-16 18:15:46,1`, /line 2: .* is not "date time/],
    [`${header}\n2023-99-16 18:15:46,1,1`, /line 2: .* is not a time/],
    [`${header}\n2023-11-16 18:15:46,0,1`, /line 2: ContextTokens is 0/],
    [`${header}\n2023-11-16 18:15:46,1,99999999`, /line 2: GeneratedTokens is 99999999/],
    [`${header}\n2023-11-16 18:15:46,1,1\n2023-11-16 18:15:45,1,1`, /line 3: it is earlier/],
    [`${mooncake({})}\n{"timestamp":`, /line 2: .* is not JSON/],
    [`${mooncake({})}\n\n${mooncake({})}`, /line 2: "" is not JSON/],
    [mooncake({ hash_ids: [1] }), /line 1: 1 hash_ids stand for 600 tokens; 2 would/],
    [mooncake({ hash_ids: [1, -2] }), /line 1: hash_ids\.1/],
    [mooncake({ input_length: 1.5 }), /line 1: input_length is 1.5/],
    [mooncake({ output_length: 0 }), /line 1: output_length is 0/],
    [mooncake({ timestamp: "soon" }), /line 1: timestamp/],
  ];
  for (const [text, message] of wrong) assert.throws(() => parseTrace(text), message);
  assert.throws(() => readTrace("/nowhere/trace.csv"), /ENOENT/);
});

test("any text is a trace or a clear error", () => {
  const parts = fc.constantFrom(header, "\n", mooncake({}), "2023-11-16 18:15:46,1,1", "{", '"', "\0", "🪿");
  fc.assert(
    fc.property(fc.array(parts, { maxLength: 12 }), (pieces) => {
      try {
        const trace = parseTrace(pieces.join(""));
        return trace.length > 0 && trace.every(({ atMs, promptTokens }) => atMs >= 0 && promptTokens >= 1);
      } catch (error) {
        return /^(line \d+|there (is|are) )/.test((error as Error).message);
      }
    }),
  );
});

test("our own trace is the same from the same seed, in order, with shared beginnings", () => {
  const trace = syntheticTrace(300, seededRandom(3));
  assert.deepEqual(trace, syntheticTrace(300, seededRandom(3)));
  assert.notDeepEqual(trace, syntheticTrace(300, seededRandom(4)));
  const seen = new Set<number>();
  let shared = 0;
  for (const [i, { atMs, promptTokens, outputTokens, blocks }] of trace.entries()) {
    assert.ok(atMs >= (trace[i - 1]?.atMs ?? 0) && outputTokens >= 1);
    assert.equal(blocks!.length, Math.ceil(promptTokens / traceBlockTokens));
    shared += blocks!.filter((block) => seen.has(block)).length;
    for (const block of blocks!) seen.add(block);
  }
  assert.ok(shared > 300, "nobody shares anything");
  const bound = cacheBound(trace);
  assert.ok(bound > 0.1 && bound < 1, String(bound));
  const repeated = { ...trace[0]!, promptTokens: 1_024, blocks: [1, 2] };
  assert.equal(cacheBound([repeated, repeated]), 0.5);
});
