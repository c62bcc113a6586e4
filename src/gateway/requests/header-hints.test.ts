import assert from "node:assert/strict";
import { test } from "node:test";
import { question, testGateway } from "../fixture.suite.ts";
import { withHeaderHints } from "./header-hints.ts";

const merged = (headers: Record<string, string>, skein?: unknown): unknown =>
  withHeaderHints({ model: "m", ...(skein === undefined ? {} : { skein }) }, new Headers(headers))["skein"];

test("headers become what the body could say, beside what it says", () => {
  assert.equal(merged({ "x-skein-resume": "true", "x-other": "1" }), undefined);
  assert.deepEqual(
    merged(
      {
        "x-skein-region": "eu",
        "X-Skein-Max-Price-Input": "0.10",
        "x-skein-max-price-second": "0",
        "x-skein-max-ttft-ms": "1500",
        "x-skein-providers-allow": "p1, p2",
        "x-skein-providers-deny": "p3",
        "x-skein-private": "True",
        "x-skein-allow-other-models": "0",
      },
      { max_price: { output: 0.4 } },
    ),
    {
      region: "eu",
      max_price: { input: "0.10", output: 0.4, second: "0" },
      max_ttft_ms: 1500,
      allow: ["p1", "p2"],
      deny: ["p3"],
      private: true,
      allow_other_models: false,
    },
  );
  assert.deepEqual(merged({ "x-skein-region": "eu" }, { region: "eu" }), { region: "eu" });
  assert.deepEqual(merged({ "x-skein-max-price-input": "0.10" }, { max_price: { input: 0.1 } }), {
    max_price: { input: "0.10" },
  });
});

test("what is wrong, unknown or said twice is refused by the header's name", async () => {
  const setup = testGateway();
  await setup.add("p1");
  const wrong: [Record<string, string>, object, RegExp][] = [
    [{ "x-skein-max-ttft-ms": "soon" }, {}, /must be milliseconds.* but it is "soon"/],
    [{ "x-skein-max-ttft-ms": "0" }, {}, /from 1 to 600000/],
    [{ "x-skein-max-price-output": "cheap" }, {}, /US dollars/],
    [{ "x-skein-private": "yes please" }, {}, /true or false/],
    [{ "x-skein-private": "" }, {}, /but it is empty/],
    [{ "x-skein-providers-allow": "p1,,p2" }, {}, /provider ids/],
    [{ "x-skein-providers-deny": Array(101).fill("p").join() }, {}, /at most 100/],
    [{ "x-skein-privat": "true" }, {}, /There is no header 'x-skein-privat'.*x-skein-private/],
    [{ "x-skein-region": "eu" }, { region: "us" }, /something else than 'skein.region'/],
    [{ "x-skein-max-price-input": "1" }, { max_price: { input: "2" } }, /'skein.max_price.input'/],
  ];
  for (const [headers, skein, says] of wrong) {
    for (const path of ["/v1/chat/completions", "/v1/quote"]) {
      const response = await setup.post(path, { ...question, skein }, headers);
      const { error } = (await response.json()) as {
        error: { message: string; param: string; type: string };
      };
      assert.equal(response.status, 400, error.message);
      assert.match(error.message, says);
      assert.equal(error.param, Object.keys(headers)[0]);
      assert.equal(error.type, "invalid_request_error");
    }
  }
  // A body that is wrong by itself is refused as ever.
  for (const skein of [3, [], { max_price: 3 }]) {
    const response = await setup.post(
      "/v1/chat/completions",
      { ...question, skein },
      { "x-skein-max-price-input": "1" },
    );
    assert.equal(response.status, 400);
    const { error } = (await response.json()) as { error: { param: string } };
    assert.match(error.param, /^skein/);
  }
});

test("they decide who answers", async () => {
  const setup = testGateway();
  for (const id of ["p1", "p2", "p3"]) await setup.add(id);
  for (let i = 0; i < 4; i++) {
    const response = await setup.post("/v1/chat/completions", question, { "x-skein-providers-allow": "p2" });
    assert.equal(((await response.json()) as { skein: { provider: string } }).skein.provider, "p2");
  }
  const refused = await setup.post("/v1/chat/completions", question, { "x-skein-region": "mars" });
  assert.match(((await refused.json()) as { error: { message: string } }).error.message, /another region/);
});
