import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { systemClock } from "../util/clock.ts";
import { answerOf, describeEngine, requestOf } from "./engine.suite.ts";
import { createNaiveEngine, naiveDefaults } from "./naive.ts";

describeEngine("naive", { question: "Which goose flies at the front?", exact: true }, async () =>
  createNaiveEngine({ clock: systemClock }, { ...naiveDefaults, msPerToken: 1 }),
);

test("an answer leaves no listener on its signal", async () => {
  const added = mock.method(EventTarget.prototype, "addEventListener");
  const removed = mock.method(EventTarget.prototype, "removeEventListener");
  const count = ({ mock: { calls } }: typeof added): number =>
    calls.filter(({ arguments: [type] }) => type === "abort").length;
  try {
    const engine = createNaiveEngine(
      { clock: systemClock },
      { ...naiveDefaults, msPerToken: 1, onToken: () => Promise.resolve() },
    );
    const { outputTokens } = await answerOf(engine, requestOf("Which goose?"));
    assert.ok(count(added) >= 2 * outputTokens);
    assert.equal(count(removed), count(added));
    await engine.close();
  } finally {
    added.mock.restore();
    removed.mock.restore();
  }
});
