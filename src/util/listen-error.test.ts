import assert from "node:assert/strict";
import { test } from "node:test";
import { listenError } from "./listen-error.ts";

test("each reason not to listen has its own words and advice; only a taken port is port_in_use", () => {
  const where = { address: "127.0.0.1:80", portOption: "--port" };
  const cases: [string, string, RegExp][] = [
    ["EADDRINUSE", "port_in_use", /another program uses that port.*--port/],
    ["EACCES", "invalid_config", /may not open that port.*above 1023 with --port/],
    ["EADDRNOTAVAIL", "invalid_config", /does not have that address.*--listen/],
    ["ENOTFOUND", "invalid_config", /no address/],
    ["some words", "invalid_config", /127\.0\.0\.1:80: some words\./],
  ];
  for (const [code, expected, words] of cases) {
    const error = listenError(code, where, null);
    assert.equal(error.code, expected);
    assert.match(error.text, words);
  }
});
