/** A gateway that wants to write to the terminal of who asks it. */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { killAll, skeinToEnd, temporaryHome } from "./processes.ts";

/** Sets the window's title, clears the screen (C0 and C1), goes back on the line, turns text around. */
const evil = "moo\u001b]0;owned\u0007\u001b[2J\u009b2J\rerror\u202e";
// oxlint-disable-next-line no-control-regex
const obeyed = /[\u0007\u001b\u0080-\u009f\r\u202a-\u202e]/;

const home = temporaryHome();
let server: Server;
let gateway: string[] = [];

before(async () => {
  server = createServer((request, response) => {
    const answer = answers[request.url ?? ""];
    if (answer !== undefined) return response.end(JSON.stringify(answer));
    if (request.url !== "/v1/chat/completions") {
      const error = { message: `No ${evil}\nhere`, code: "model_not_found" };
      return response.writeHead(404).end(JSON.stringify({ error }));
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    const chunk = { choices: [{ delta: { content: `one\n${evil}` }, finish_reason: "stop" }] };
    response.write(`data: ${JSON.stringify({ ...chunk, skein: { provider: evil } })}\n\n`);
    return response.end("data: [DONE]\n\n");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  gateway = ["--gateway", `http://127.0.0.1:${(server.address() as AddressInfo).port}`];
});
after(async () => {
  await killAll();
  server.close();
  home.remove();
});

const price = { input_per_million_tokens: "1", output_per_million_tokens: "1", per_second: "0" };
const answers: Record<string, unknown> = {
  "/v1/models": {
    data: [
      {
        id: `tiny ${evil}`,
        skein: {
          model_ids: [`x:${evil}`],
          engines: [evil],
          trust_tiers: [evil],
          providers: 1,
          context_tokens_max: 9,
          price: { from: price, to: price },
        },
      },
    ],
  },
  "/skein/v1/providers": {
    data: [
      { id: evil, region: evil, state: evil, reason: evil, models: [], requests: {}, round_trip_ms: null },
    ].map((provider) => ({ ...provider, ttft_ms: null, tokens_per_second: null, queued: evil })),
  },
  "/skein/v1/gateway": { peer_id: evil, version: evil, providers: evil, now_ms: Date.now() },
};

for (const args of [
  ["models"],
  ["models", "--json"],
  ["providers"],
  ["providers", "--json"],
  ["chat", "hello"],
  ["chat", "hello", "--json"],
  ["quote", "hello"],
  ["quote", "hello", "--verbose"],
  ["doctor"],
]) {
  test(`skein ${args.join(" ")} prints nothing that a terminal would obey`, async () => {
    const { output } = await skeinToEnd(home.path, ...args, ...gateway);
    assert.match(output, /moo/);
    assert.doesNotMatch(output, obeyed, JSON.stringify(output));
  });
}
