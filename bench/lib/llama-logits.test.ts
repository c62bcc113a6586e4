import assert from "node:assert/strict";
import { test } from "node:test";
import { difference } from "./fixture.suite.ts";
import { demoModel } from "./gguf-writer.ts";
import { missingLlama, startLlama } from "./llama-logits.ts";

test(
  "logits come from the model asked for, and errors are told",
  { skip: missingLlama() ?? false },
  async () => {
    const llama = await startLlama();
    try {
      await assert.rejects(llama.load("/nowhere.gguf", { contextTokens: 64 }), /nowhere/);
      const model = await llama.load(demoModel, { contextTokens: 64 });
      const tokenIds = await model.tokenize("<|im_start|>user\nWhat is 2 + 2?<|im_end|>");
      const logits = await model.logits(tokenIds);
      assert.equal(logits.length, tokenIds.length * 2048);
      // A prefix has the same logits, except for the order in which a batch is summed up.
      const prefix = await model.logits(tokenIds.slice(0, 5));
      const { largest, spread } = difference(logits.subarray(0, 5 * 2048), prefix);
      assert.ok(largest < 0.05 * spread, `they differ by ${largest}`);
      await assert.rejects(model.logits(Array.from({ length: 65 }, () => 5)), /64 tokens/);
      await model.close();
      await assert.rejects(model.logits(tokenIds), /not loaded/);
      // Whoever asks a process that ended is told so at once.
      llama.close();
      await assert.rejects(model.logits(tokenIds), /ended/);
      await assert.rejects(model.logits(tokenIds), /ended/);
    } finally {
      llama.close();
    }
  },
);
