import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { AnswerEvent } from "../answers/answer-request.ts";
import type { ChoiceEnd } from "../answers/answer-choice.ts";
import { Cursor } from "./cursor.ts";
import { Cut } from "./cut-at.ts";

/** Events of the same texts, in other pieces and another order. */
function eventsOf(texts: readonly string[], draws: readonly number[]): AnswerEvent[] {
  const at = texts.map(() => 0);
  const open = new Set(texts.keys());
  const events: AnswerEvent[] = [];
  for (let i = 0; open.size > 0; i++) {
    const draw = draws[i % draws.length]! + i;
    const choice = [...open][draw % open.size]!;
    const text = texts[choice]!.slice(at[choice], at[choice]! + 1 + (draw % 3));
    if (text === "") {
      open.delete(choice);
      events.push({ type: "end", choice, end: {} as ChoiceEnd });
    } else {
      at[choice]! += text.length;
      events.push({ type: "text", choice, text, logprobs: null, offer: null });
    }
  }
  return events;
}

function note(cursor: Cursor, event: AnswerEvent): void {
  if (event.type === "end") cursor.ended(event.choice);
  else cursor.went(event.choice, event.text.length);
}

const anyTexts = fc.array(fc.string({ maxLength: 6 }), { minLength: 1, maxLength: 4 });
const anyDraws = fc.array(fc.nat(100), { minLength: 1, maxLength: 20 });

test("told in other pieces, there is a moment at which it stands where the client is", async () => {
  await fc.assert(
    fc.asyncProperty(anyTexts, anyDraws, anyDraws, fc.nat(40), async (texts, first, second, count) => {
      const cursor = new Cursor(texts.length);
      for (const event of eventsOf(texts, first).slice(0, count)) note(cursor, event);
      assert.deepEqual(Cursor.parse(cursor.toString(), texts.length), cursor);
      const cut = new Cut(cursor);
      const stand = new Cursor(texts.length);
      const told = texts.map(() => "");
      let atMark: string | null = null;
      async function* source(): AsyncGenerator<AnswerEvent> {
        yield* eventsOf(texts, second);
      }
      for await (const event of cut.apply(source())) {
        if (cut.isReached) atMark ??= stand.toString();
        note(stand, event);
        if (event.type === "text") told[event.choice]! += event.text;
      }
      assert.deepEqual(told, texts);
      assert.equal(atMark ?? stand.toString(), cursor.toString());
    }),
  );
});

test("a client that saw more than there is now gets the end", async () => {
  const cut = new Cut(new Cursor(1, [90]));
  async function* source(): AsyncGenerator<AnswerEvent> {
    yield* eventsOf(["short"], [0]);
  }
  const events: AnswerEvent[] = [];
  for await (const event of cut.apply(source())) events.push(event);
  assert.equal(events.at(-1)!.type, "end");
  assert.equal(cut.isReached, true);
});

test("what is no cursor of the stream is refused", () => {
  for (const wrong of ["", ".", "1.", "1.2.3.4", "-1", "1e3", "1.x", "99999999999"]) {
    assert.equal(Cursor.parse(wrong, 2), null, wrong);
  }
  assert.deepEqual(Cursor.parse("3.0.1", 2), new Cursor(2, [3, 0], 1));
});
