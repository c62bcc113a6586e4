/** Embeddings over real processes of both engines, while providers die. */
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { localNetwork } from "./local-network.ts";

let openai: OpenAI;
const network = localNetwork({ exact: 2, llama: 2 }, ({ url }) => {
  openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
});

const input = Array.from({ length: 160 }, (_, i) => `A goose flies over ${i} fields.`);

for (const model of ["tiny-exact", "tiny"]) {
  test(`${model}: a provider that is killed costs time, no vector, and nobody notices`, async () => {
    const pool = model === "tiny" ? network.llama : network.exact;
    const body = { model, input, encoding_format: "base64" as const };
    const { data: before, usage } = await openai.embeddings.create(body);
    assert.equal(before.length, input.length);
    assert.ok(usage.prompt_tokens > input.length);
    const asking = openai.embeddings.create(body);
    pool.remove(pool.members[0]!.id, "SIGKILL");
    const { data: after } = await asking;
    assert.equal(after.length, input.length);
    const bytesOf = ({ embedding }: { embedding: unknown }): Buffer =>
      Buffer.from(embedding as string, "base64");
    for (const [i, one] of before.entries()) {
      const [own, other] = [bytesOf(one), bytesOf(after[i]!)];
      if (model === "tiny-exact") assert.ok(own.equals(other), `input ${i} has other bits`);
      else assert.ok(cosine(own, other) > 0.999, `input ${i}`);
    }
  });
}

function cosine(a: Buffer, b: Buffer): number {
  let sum = 0;
  for (let at = 0; at < a.length; at += 4) sum += a.readFloatLE(at) * b.readFloatLE(at);
  return sum;
}
