import { resolve } from "node:path";
import type { Command } from "commander";
import { type CheckedModel, checkModel } from "../../../engine/exact/check.ts";
import { withConverted } from "../../../engine/exact/convert.ts";
import { printableJson } from "../../../util/printable.ts";
import { contextOf } from "../../context.ts";
import { exitCodes } from "../../exit.ts";
import { exitWhenStopped } from "../../foreground.ts";
import { createProgress } from "../../progress.ts";
import { exactCacheFolder, threadsOf } from "../../provider-config.ts";
import { quantizationOption } from "../../quantization.ts";
import { seconds, step } from "../../terminal.ts";

/** The reference takes seconds for a token of a large model. */
const budgetMs = 20_000;

/** `skein exact check` */
export async function check(file: string, command: Command): Promise<void> {
  const { flags, home, settings } = contextOf(command);
  const startMs = performance.now();
  const { signal } = new AbortController();
  const converting = createProgress("converting the model to integers (once)");
  const reading = createProgress("reading and hashing weights");
  const comparing = createProgress("comparing with the reference");
  const endable = exitWhenStopped();
  const result = await withConverted(
    resolve(file),
    exactCacheFolder(home),
    { signal, ...quantizationOption(flags), onProgress: (done, total) => converting.show(done, total) },
    (path) => {
      converting.end();
      return checkModel(path, {
        signal,
        positions: (flags["tokens"] as number | undefined) ?? null,
        budgetMs,
        threads: threadsOf(settings.threads),
        onRead: (done, total) => reading.show(done, total),
        onCompared: ({ positions, total }) => {
          reading.end();
          // There is nothing to remove any more, and the reference lets no signal in between.
          endable();
          comparing.show(positions, total);
        },
      });
    },
  ).finally(() => {
    for (const progress of [converting, reading, comparing]) progress.end();
  });
  if (flags["json"] === true) console.log(printableJson(viewOf(result)));
  else tell(result, seconds(startMs));
  if (result.difference !== null) process.exitCode = exitCodes.failed;
}

function viewOf({ modelId, positions, total, difference }: CheckedModel) {
  return {
    model_id: modelId,
    hashes: "ok",
    positions_compared: positions,
    positions_planned: total,
    is_identical: difference === null,
    difference,
  };
}

function tell({ modelId, shape, positions, total, difference }: CheckedModel, took: string): void {
  step("done", `every hash is right: ${modelId}`);
  if (difference !== null) {
    const { sequence, position, part } = difference;
    const where = typeof part !== "number" ? part : part === 0 ? "embedding" : `layer ${part}`;
    step(
      "failed",
      `this machine computes something else than the reference: sequence ${sequence}, position ${position}, ${where}`,
    );
    return;
  }
  const part = positions < total ? ` (of ${total}; --tokens ${total} compares them all)` : "";
  step(
    "done",
    `WebAssembly and the reference agree in every bit: ${positions} positions${part}, ${shape.layers} layers and logits (${took})`,
  );
}
