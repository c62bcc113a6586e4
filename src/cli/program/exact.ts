/** `skein exact …` */
import type { Command } from "commander";
import { collectBias, collectTexts, numberBetween, wholeNumber } from "../flags.ts";
import { answerTokensMax, bitsOption, jsonOption, threadsOption } from "./options.ts";

const fileArgument = "a .skein file, or a GGUF file or a folder from Hugging Face (converted once, and kept)";

export function addExactCommands(program: Command): void {
  const exact = program
    .command("exact")
    .description("models in integers: the same bits on every machine; convert, look at, run and check them");
  addConvert(exact);
  addInspect(exact);
  addRun(exact);
  addCheck(exact);
}

function addConvert(exact: Command): void {
  exact
    .command("convert <model> [output]")
    .description(
      "convert a GGUF model (the first part of a split one) or a folder from Hugging Face to a .skein file, and say what rounding costs",
    )
    .addOption(bitsOption())
    .option("--force", "replace the output where it exists")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      "\nThe output is beside the model unless it is named. Every machine makes the same file of the same model.\n\nExamples:\n  skein exact convert qwen2.5-0.5b-instruct-q8_0.gguf\n  skein exact convert model-00001-of-00003.gguf /models/model.skein\n  skein exact convert Qwen2.5-0.5B-Instruct/ qwen.skein\n  skein exact convert llama-3.2-1b-instruct-f16.gguf --bits 4",
    )
    .action(async (model: string, output: string | undefined, _, command: Command) =>
      (await import("../commands/exact/convert.ts")).convert(model, output, command),
    );
}

function addInspect(exact: Command): void {
  exact
    .command("inspect <file>")
    .description("show what a .skein file holds: identity, shape, sizes, tokenizer, template")
    .addOption(jsonOption())
    .action(async (file: string, _, command: Command) =>
      (await import("../commands/exact/inspect.ts")).inspect(file, command),
    );
}

function addRun(exact: Command): void {
  exact
    .command("run")
    .description("answer a prompt on this machine, without a network")
    .argument("<file>", fileArgument)
    .argument("[prompt...]", "default: read from stdin")
    .option("--system <text>", "instructions for the model")
    .option("--raw", "the prompt as it is, without the chat template")
    .option("--temperature <n>", "0 to 2; 0 takes the most likely token (default: 0)", numberBetween(0, 2))
    .option(
      "--top-p <n>",
      "draw from the most likely tokens up to this share (default: 1)",
      numberBetween(0, 1),
    )
    .option(
      "--top-k <n>",
      "draw from so many of the most likely tokens (default: all)",
      wholeNumber(0, 1_000_000),
    )
    .option(
      "--min-p <n>",
      "draw from tokens at least so likely as a share of the best (default: 0)",
      numberBetween(0, 1),
    )
    .option(
      "--presence-penalty <n>",
      "-2 to 2, against tokens the answer has (default: 0)",
      numberBetween(-2, 2),
    )
    .option(
      "--frequency-penalty <n>",
      "-2 to 2, each time the answer has them (default: 0)",
      numberBetween(-2, 2),
    )
    .option("--logit-bias <id=n>", "-100 to 100, for or against a token; may be repeated", collectBias)
    .option("--stop <text>", "end the answer before this text; may be repeated", collectTexts)
    .option("--seed <n>", "another seed gives another answer (default: 0)", wholeNumber(0, 2 ** 32 - 1))
    .option(
      "--max-tokens <n>",
      "longest answer (default: up to the context's end)",
      wholeNumber(1, answerTokensMax),
    )
    .option("--context <tokens>", "prompt and answer together (default: the model's, as far as it fits)")
    .addOption(bitsOption())
    .addOption(threadsOption())
    .option("--commit", "also print the execution root: a hash over every number that was computed")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      '\nExample:\n  skein exact run tiny.skein "What sound does a cow make?" --temperature 1 --seed 7 --commit',
    )
    .action(async (file: string, words: string[], _, command: Command) =>
      (await import("../commands/exact/run.ts")).run(file, words, command),
    );
}

function addCheck(exact: Command): void {
  exact
    .command("check")
    .description("check a model's hashes, and that this machine computes the same bits as the reference")
    .argument("<file>", fileArgument)
    .option(
      "--tokens <n>",
      "positions to compare (default: a few, for at most 20 s)",
      wholeNumber(1, 1_000_000),
    )
    .addOption(bitsOption())
    .addOption(threadsOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nNeeds memory for the weights twice. Ends with code 1 when a single bit differs.")
    .action(async (file: string, _, command: Command) =>
      (await import("../commands/exact/check.ts")).check(file, command),
    );
}
