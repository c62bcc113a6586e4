/** The examples, each run as a user runs it, against a network like that of `npm start`. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { untilAvailable } from "./pool.ts";
import { killAll, type Running, skein, stop, temporaryHome, waitMs } from "./processes.ts";

const home = temporaryHome();
let network: Running;
let url = "";

before(async () => {
  network = skein(home.path, "up", "--port", "0");
  [, url] = (await network.printed(/(http:\/\/127\.0\.0\.1:\d+)\/v1/)) as unknown as [string, string];
  await untilAvailable(url, "tiny", 1);
});

after(async () => {
  try {
    await stop(network);
  } finally {
    await killAll();
  }
  home.remove();
});

const expected: Readonly<Record<string, readonly RegExp[]>> = {
  "ai-sdk": [
    /^text: .*moo/m,
    /^object: \{"name":/m,
    /^function: add \{.*\} = \d+$/m,
    /^embeddings: 2 of 256/m,
  ],
  langchain: [
    /^text: .*moo/m,
    /^object: \{"name":/m,
    /^function: add \{.*\} = \d+$/m,
    /^embeddings: 2 of 256/m,
  ],
  "mcp-agent": [/^functions: add$/m, /^call: add \{.*\} = \d+$/m, /^answer: .+/m],
};

for (const [name, lines] of Object.entries(expected)) {
  test(`${name} runs`, async () => {
    const file = fileURLToPath(new URL(`../../examples/${name}.ts`, import.meta.url));
    const env = { ...process.env, SKEIN_URL: `${url}/v1`, SKEIN_API_KEY: "none", SKEIN_MODEL: "tiny" };
    const { stdout } = await promisify(execFile)(process.execPath, [file], { env, timeout: waitMs });
    for (const line of lines) assert.match(stdout, line);
  });
}
