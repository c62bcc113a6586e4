import assert from "node:assert/strict";
import { test } from "node:test";
import { cheats } from "./cheats.suite.ts";
import { detect } from "./detect.suite.ts";
import { microModels } from "./micro-models.suite.ts";

const models = await microModels();
const options = {
  prompts: ["once upon a time", "the fox, the river", "what is it?"],
  outputTokensMax: 24,
  answersMax: 60,
  roundMs: 20,
};

for (const cheat of cheats) {
  test(`found out: ${cheat.name}`, async () => {
    // A slightly wrong temperature seldom changes a short answer, and an unchanged answer is right.
    const outputTokensMax = cheat.making?.sampling === undefined ? options.outputTokensMax : 72;
    const found = await detect(models, cheat, { ...options, outputTokensMax });
    assert.equal(found.foundBy, cheat.foundBy, JSON.stringify(found));
    if (cheat.foundBy !== "audit") return;
    assert.equal(found.audits, 1, "at the first audit");
    assert.ok(found.isExcluded, "it gets no more work for this model");
  });
}

test("an honest provider is audited, and never accused", async () => {
  const found = await detect(models, { name: "none", foundBy: "audit" }, { ...options, answersMax: 20 });
  assert.equal(found.foundBy, null);
  assert.ok(found.audits > 0);
});
