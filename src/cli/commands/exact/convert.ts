import { statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Command } from "commander";
import { convertFile } from "../../../engine/exact/convert.ts";
import { nameOf } from "../../../engine/gguf/inspect.ts";
import { SkeinError } from "../../../util/errors.ts";
import { printableJson } from "../../../util/printable.ts";
import { quantizationOption } from "../../quantization.ts";
import { contextOf } from "../../context.ts";
import { stopSignal } from "../../foreground.ts";
import { createProgress } from "../../progress.ts";
import { bytesText, seconds, step } from "../../terminal.ts";

/** `skein exact convert` */
export async function convert(input: string, output: string | undefined, command: Command): Promise<void> {
  const { flags } = contextOf(command);
  const startMs = performance.now();
  const path = resolve(input);
  const target = output === undefined ? join(dirname(path), `${nameOf(path)}.skein`) : resolve(output);
  if (flags["force"] !== true && statSync(target, { throwIfNoEntry: false })?.isFile() === true) {
    throw new SkeinError("invalid_config", `${target} exists.`, {
      hint: "Give another name, or --force to replace it.",
    });
  }
  const progress = createProgress("converting");
  const { modelId, fileBytes, weightError } = await convertFile(path, target, {
    signal: stopSignal(),
    ...quantizationOption(flags),
    onProgress: (done, total) => progress.show(done, total),
  }).finally(() => progress.end());
  if (flags["json"] === true)
    console.log(
      printableJson({ file: target, bytes: fileBytes, model_id: modelId, weight_error: weightError }),
    );
  else {
    step("done", `${target}, ${bytesText(fileBytes)} (${seconds(startMs)})`);
    step("done", `weights differ from those read by ${percent(weightError)} (root of mean squares)`);
    console.log(modelId);
  }
}

function percent(share: number): string {
  return `${(100 * share).toPrecision(2)} %`;
}
