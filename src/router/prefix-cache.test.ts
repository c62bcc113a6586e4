import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ChatMessage, Prompt } from "../protocol/generate.ts";
import { PrefixCache, promptKeys } from "./prefix-cache.ts";

const chat = (...contents: string[]): Prompt => ({
  kind: "chat",
  messages: contents.map((content, i): ChatMessage => ({
    role: i % 2 === 0 ? "user" : "assistant",
    content,
  })),
});
const blockTokens = 256;
const words = "goose ".repeat(100);

test("the next turn of a conversation finds who had the turns before", () => {
  const cache = new PrefixCache();
  cache.remember(promptKeys(chat(words), "k"), "p1", 0);
  const next = promptKeys(chat(words, "honk", "and then?"), "k");
  const cached = cache.lookUp(next, 1);
  assert.deepEqual([...cached.keys()], ["p1"]);
  assert.ok(cached.get("p1")! >= 150 && cached.get("p1")! < next.promptTokens);
  cache.remember(next, "p2", 2);
  const again = cache.lookUp(next, 3);
  assert.ok(again.get("p2")! > again.get("p1")!);
  assert.deepEqual(cache.lookUp(promptKeys(chat("other", "honk"), "k"), 3), new Map());
});

test("another API key finds nothing; neither does anybody after a while", () => {
  const cache = new PrefixCache();
  cache.remember(promptKeys(chat(words), "key 1"), "p1", 0);
  assert.equal(cache.lookUp(promptKeys(chat(words), "key 2"), 0).size, 0);
  assert.equal(cache.lookUp(promptKeys(chat(words), "key 1"), 3_600_000).size, 0);
});

test("texts and token ids are cut into blocks; memory is bounded", () => {
  const cache = new PrefixCache();
  const text = words.repeat(20);
  cache.remember(promptKeys({ kind: "text", text }, "k"), "p1", 0);
  assert.ok(cache.lookUp(promptKeys({ kind: "text", text: `${text}more` }, "k"), 0).get("p1")! > 2_500);
  const tokenIds = Array.from({ length: 1_000 }, (_, i) => i);
  cache.remember(promptKeys({ kind: "tokens", tokenIds }, "k"), "p2", 0);
  const other = [...tokenIds.slice(0, 600), 9, 9, 9];
  assert.equal(cache.lookUp(promptKeys({ kind: "tokens", tokenIds: other }, "k"), 0).get("p2"), 512);
  for (let i = 0; i < 101_000; i++) cache.remember(promptKeys(chat(String(i)), "k"), "p3", 0);
  assert.equal(cache.size, 100_000);
  assert.equal(promptKeys(chat("x".repeat(1_000_000)), "k").promptTokens, 250_006);
  assert.notDeepEqual(promptKeys(chat("a"), "k").points, promptKeys(chat("b"), "k").points);
});

test("of what two long prompts share, at least four fifths are found, wherever they part", () => {
  const part = fc.integer({ min: blockTokens, max: 120_000 });
  fc.assert(
    fc.property(part, fc.nat(20_000), fc.nat(20_000), (shared, mine, yours) => {
      const ids = (own: number, length: number): Prompt => ({
        kind: "tokens",
        tokenIds: Array.from({ length: shared + length }, (_, i) => (i < shared ? i : own)),
      });
      const cache = new PrefixCache();
      cache.remember(promptKeys(ids(-1, mine), "k"), "p", 0);
      const found = cache.lookUp(promptKeys(ids(-2, yours), "k"), 0).get("p") ?? 0;
      assert.ok(found <= shared && found >= 0.8 * (shared - blockTokens));
    }),
    { numRuns: 50 },
  );
});
