import assert from "node:assert/strict";
import { test } from "node:test";
import type OpenAI from "openai";
import { ManualClock } from "../../util/clock.ts";
import { clientOf, failure } from "../client.suite.ts";
import { defaultFileLimits } from "../files/file-store.ts";
import { question, testGateway } from "../fixture.suite.ts";

test("stored completions: kept for one API key, listed, noted on, deleted", async () => {
  const own = testGateway({ apiKeys: ["key-a", "key-b"] });
  await own.add("p1");
  const { completions } = clientOf(own).chat;
  const other = clientOf(own, "key-b").chat.completions;
  const asked = { ...question, store: true, metadata: { topic: "geese" } };
  const first = await completions.create(asked);
  const stored = await completions.retrieve(first.id);
  assert.deepEqual(stored.choices, first.choices);
  assert.deepEqual(stored.metadata, { topic: "geese" });
  // A stream is kept as the whole that it is.
  let id = "";
  let text = "";
  for await (const chunk of await completions.create({ ...asked, metadata: null, stream: true })) {
    ({ id } = chunk);
    text += chunk.choices[0]?.delta.content ?? "";
  }
  assert.equal((await completions.retrieve(id)).choices[0]!.message.content, text);
  await completions.create(question);
  const ids = async (query: OpenAI.ChatCompletionListParams): Promise<string[]> =>
    (await completions.list(query)).data.map((completion) => completion.id);
  assert.deepEqual(await ids({}), [first.id, id]);
  assert.deepEqual(await ids({ order: "desc", limit: 1 }), [id]);
  assert.deepEqual(await ids({ metadata: { topic: "geese" } }), [first.id]);
  assert.deepEqual(await ids({ model: "other" }), []);
  assert.equal((await completions.messages.list(id)).data[0]!.content, question.messages[0]!.content);
  assert.deepEqual((await completions.update(id, { metadata: { a: "b" } })).metadata, { a: "b" });
  assert.deepEqual((await completions.retrieve(id)).metadata, { a: "b" });
  await assert.rejects(other.retrieve(id), failure(404, null));
  await assert.rejects(other.delete(id), failure(404, null));
  assert.equal((await other.list()).data.length, 0);
  await assert.rejects(completions.update(id, { metadata: { a: 1 } as never }), failure(400, "metadata"));
  await assert.rejects(completions.create({ ...asked, store: "yes" as never }), failure(400, "store"));
  await assert.rejects(
    completions.create({ ...asked, metadata: { a: 1 } as never }),
    failure(400, "metadata"),
  );
  assert.equal((await completions.delete(id)).deleted, true);
  await assert.rejects(completions.retrieve(id), failure(404, null));
  own.gateway.close();
});

test("stored completions are gone when their time is over", async () => {
  const clock = new ManualClock();
  const own = testGateway({ files: { ...defaultFileLimits, retentionMs: 60_000 } }, 1, clock);
  await own.add("p1");
  const { completions } = clientOf(own).chat;
  const { id } = await completions.create({ ...question, store: true });
  clock.advance(59_999);
  assert.equal((await completions.retrieve(id)).id, id);
  clock.advance(1);
  await assert.rejects(completions.retrieve(id), failure(404, null));
  own.gateway.close();
});
