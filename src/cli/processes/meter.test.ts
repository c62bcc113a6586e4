import assert from "node:assert/strict";
import { test } from "node:test";
import { createNaiveEngine, naiveDefaults } from "../../engine/naive.ts";
import { type GenerateRequest, greedySampling } from "../../protocol/generate.ts";
import { createRequestHandler } from "../../provider/handler.ts";
import { systemClock } from "../../util/clock.ts";
import { createMeter } from "./meter.ts";

const price = { inputPerMillionTokens: 0n, outputPerMillionTokens: 0n, perSecond: 0n };

function ask(requestId: string, outputTokensMax = 5): GenerateRequest {
  return {
    requestId,
    modelId: naiveDefaults.modelId,
    prompt: { kind: "chat", messages: [{ role: "user", content: "Hello" }] },
    emitted: { tokenIds: [], text: "" },
    sampling: greedySampling,
    stop: [],
    constraint: null,
    logprobs: null,
    outputTokensMax,
    timeoutMs: 10_000,
  };
}

test("requests, tokens and failures are counted; probes and clients that leave are not", async () => {
  const engine = createNaiveEngine(
    { clock: systemClock },
    {
      ...naiveDefaults,
      msPerToken: 1,
      onToken: ({ requestId }) => {
        if (requestId === "bad") throw new Error("broken");
      },
    },
  );
  const meter = createMeter();
  const requests = createRequestHandler([{ engine, name: "naive", price }], () => false, null);
  const handler = meter.metered(requests);
  const never = new AbortController().signal;
  async function run(
    request: GenerateRequest,
    signal = never,
    onEvent = (): void => undefined,
  ): Promise<void> {
    for await (const event of handler.generate(request, signal)) if (event.type === "tokens") onEvent();
  }

  await Promise.all([run(ask("one")), run(ask("two")), run(ask("probe"))]);
  assert.deepEqual(meter.totals(), { active: 0, completed: 2, failed: 0, tokens: 10 });
  await assert.rejects(run(ask("bad")));
  assert.equal(meter.totals().failed, 1);
  const leaving = new AbortController();
  let activeMax = 0;
  await assert.rejects(
    run(ask("left", 400), leaving.signal, () => {
      activeMax = meter.totals().active;
      leaving.abort();
    }),
  );
  assert.equal(activeMax, 1);
  const { active, completed, failed } = meter.totals();
  assert.deepEqual([active, completed, failed], [0, 2, 1]);
  await engine.close();
});
