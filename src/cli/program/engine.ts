/** `skein engine …` */
import { type Command, Option } from "commander";
import { jsonOption } from "./options.ts";

export function addEngineCommands(program: Command): void {
  const engine = program.command("engine").description("install native engines and their GPU backends");
  engine
    .command("add <engine>")
    .description("install an engine: llama")
    .addOption(
      new Option("--gpu <backend>", "also a GPU backend; Metal is built in on macOS").choices([
        "cuda",
        "vulkan",
      ]),
    )
    .addOption(new Option("--bundled", "into this package's own folder").hideHelp())
    .action(async (name: string, _, command: Command) =>
      (await import("../commands/engine.ts")).addEngine(name, command),
    );
  engine
    .command("list")
    .description("show what is installed")
    .addOption(jsonOption())
    .action(async (_, command: Command) => (await import("../commands/engine.ts")).listEngines(command));
  engine
    .command("remove <engine>")
    .description("remove an engine from the user's folder")
    .action(async (name: string, _, command: Command) =>
      (await import("../commands/engine.ts")).removeEngine(name, command),
    );
}
