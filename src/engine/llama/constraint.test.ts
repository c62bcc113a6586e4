import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { greedySampling } from "../../protocol/generate.ts";
import { ask, collect } from "../asking.suite.ts";
import { describeConstraints } from "../constraint.suite.ts";
import { openEngine } from "./fixture.suite.ts";

let engine: Awaited<ReturnType<typeof openEngine>>;
before(async () => {
  engine = await openEngine();
});
after(() => engine.close());

describeConstraints(() => engine);

test("an answer of a form is scored as it was drawn, and one of another form is not believed", async () => {
  const constraint = { grammar: 'root ::= "{" [a-z ]{12,40} "}"', responseFormat: null };
  for (const sampling of [greedySampling, { ...greedySampling, temperature: 1, seed: 4 }]) {
    const request = ask("A fox", { constraint, sampling });
    const { tokenIds } = await collect(engine, request);
    const signal = AbortSignal.timeout(60_000);
    const honest = await engine.score!({ request, tokenIds, isEnded: true, chunkTokens: null }, signal);
    assert.equal(honest.margins.length, tokenIds.length + 1);
    assert.ok(
      honest.margins.every((margin) => margin < 0.5),
      honest.margins.join(),
    );
    const free = await collect(engine, ask("A fox", { sampling, outputTokensMax: 4 }));
    const claim = { request, tokenIds: free.tokenIds, isEnded: false, chunkTokens: null };
    const other = await engine.score!(claim, signal);
    assert.ok(other.margins.includes(Number.POSITIVE_INFINITY));
  }
});
