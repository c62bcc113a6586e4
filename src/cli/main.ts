/** The command line: which commands there are. Each is loaded only when it is used. */
import { Command, Option } from "commander";
import { endWithReader, exitCodeOf, exitCodesHelp, explain } from "./exit.ts";
import { collectList, numberBetween, wholeNumber } from "./flags.ts";
import { endWithLauncher } from "./launcher.ts";
import { packageVersion } from "./package-info.ts";
import { addAuditCommands } from "./program/audit.ts";
import { addBatchCommands } from "./program/batch.ts";
import { addEngineCommands } from "./program/engine.ts";
import { addExactCommands } from "./program/exact.ts";
import {
  answerTokensMax,
  bitsOption,
  gatewayOption,
  jsonOption,
  keyOption,
  seedNumber,
  threadsOption,
} from "./program/options.ts";

/** More providers than this on one machine starve each other. */
const providersMax = 16;

endWithLauncher();
endWithReader();

const program = new Command("skein")
  .description(
    "An open network for AI inference: scattered machines, one dependable OpenAI-compatible service.",
  )
  .version(packageVersion)
  .option("--verbose", "show stack traces, and log more (--log-level info)")
  .option("--log-level <level>", "debug, info, warn, error or silent (stderr, JSON lines)")
  .showHelpAfterError("(add --help for what it takes)")
  .configureHelp({ sortSubcommands: false })
  .addHelpText("after", `${exitCodesHelp}\n\nStart with \`skein up\`; docs/ and README.md say more.`)
  .exitOverride();

/** A command that talks to a gateway. */
function client(name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .addOption(gatewayOption())
    .addOption(keyOption())
    .addOption(jsonOption());
}

program
  .command("up")
  .description("run a whole local network: a gateway and providers with the demo model")
  .option("--providers <n>", "number of providers", wholeNumber(1, providersMax), 3)
  .option(
    "--exact <n>",
    "number of providers with the exact engine beside them (default: 1 with the demo model, else 0)",
    wholeNumber(0, providersMax),
  )
  .option("--model <file>", "GGUF file to serve instead of the demo model")
  .option("--name <name>", "name of the model")
  .option("--port <port>", "port for HTTP; 0 picks a free one (default: 4141)")
  .option("--network-port <port>", "port for providers; 0 picks a free one (default: 4142)")
  .addOption(new Option("--show-secrets", "print configured keys").hideHelp())
  .addHelpText(
    "after",
    "\nExamples:\n  skein up\n  skein up --providers 1 --model ~/models/qwen2.5-1.5b-q8_0.gguf --port 8080",
  )
  .action(async (_, command: Command) => (await import("./commands/up.ts")).up(command));

program
  .command("gateway")
  .description("run a gateway: the OpenAI-compatible door that providers join")
  .option("--port <port>", "port for HTTP (default: 4141)")
  .option("--network-port <port>", "port for providers (default: 4142)")
  .option(
    "--listen [address]",
    "listen beyond this machine: on all addresses, or on IP, IP:port, [IPv6]:port",
  )
  .option(
    "--announce <multiaddrs>",
    "addresses to tell providers, when behind a port forwarding",
    collectList,
  )
  .option("--join-token <token>", "secret that providers must know; better in SKEIN_JOIN_TOKEN")
  .option("--allow-providers <ids>", "ids of providers that may join without the token", collectList)
  .option("--open", "let any provider join, also strangers, who then see prompts")
  .option("--allowed-hosts <names>", "names that the gateway answers to, besides loopback ones", collectList)
  .option("--cors-origins <origins>", "web origins whose pages may call", collectList)
  .option("--join <gateways>", "other gateways of the same network", collectList)
  .option("--show-secrets", "print API key and join token also when they are not new")
  .option(
    "--audit-model <files>",
    "models to check exact answers with, beside those that were converted here; may be repeated",
    collectList,
  )
  .option(
    "--audit-llama <files>",
    "GGUF models to weigh answers of llama.cpp with, each calibrated here (skein calibrate)",
    collectList,
  )
  .option("--region <name>", "where this machine is, for example eu-west: whoever declares it must be near")
  .option("--lan", "be found on the local network (mDNS)")
  .addHelpText(
    "after",
    "\nOn loopback no key is needed. With --listen, clients need an API key and providers a join token;\nboth are made at first use, printed then, and kept in files that only you can read.\n\nExamples:\n  skein gateway\n  skein gateway --listen\n  skein gateway --listen 192.0.2.7:8080 --cors-origins https://chat.example.org",
  )
  .action(async (_, command: Command) => (await import("./commands/gateway.ts")).gateway(command));

program
  .command("provide")
  .description("offer a model, or a server that already runs, to gateways")
  .option(
    "--model <file>",
    "GGUF file to serve; with the exact engine also a .skein file or a folder from Hugging Face",
  )
  .addOption(
    new Option(
      "--engine <engine>",
      "llama (llama.cpp), exact (the same bits everywhere), or openai for a server that runs",
    ).choices(["llama", "exact", "openai"]),
  )
  .addOption(bitsOption())
  .option(
    "--draft <file>",
    "exact engine: a smaller model with the same tokenizer that guesses ahead (same answers, sooner)",
  )
  .option("--url <url>", "with --engine openai: base URL of the server")
  .option("--upstream-model <name>", "with --engine openai: which of its models")
  .addOption(
    new Option(
      "--resume-by <how>",
      "with --engine openai: text lets chats that were cut go on, where the server can (tried out at the start)",
    ).choices(["text"]),
  )
  .option("--name <name>", "name to offer the model under")
  .option(
    "--join <gateways>",
    "gateways to serve: URL, host:port or multiaddr; may be repeated (default: http://127.0.0.1:4141)",
    collectList,
  )
  .option("--token <token>", "join token of the gateway; better in SKEIN_JOIN_TOKEN")
  .option("--lan", "find gateways on the local network (mDNS)")
  .option("--region <name>", "where this machine is, for example eu-west")
  .option("--price-input <usd>", "USD per million input tokens (default: 0)")
  .option("--price-output <usd>", "USD per million output tokens (default: 0)")
  .option("--price-second <usd>", "USD per second of engine time (default: 0)")
  .option(
    "--parallel <n>",
    "requests generated at the same time (default: 4; exact engine: as many as find room, up to 16)",
  )
  .option(
    "--context <tokens>",
    "prompt and answer together (default: the model's, up to 8192; exact: what fits)",
  )
  .addOption(threadsOption())
  .addOption(
    new Option("--gpu <mode>", "auto or off, for llama.cpp (default: auto)").choices(["auto", "off"]),
  )
  .option("--identity <file>", "key file of this provider (default: a new one per run)")
  .option("--once", "fail when no gateway can be joined, instead of trying again")
  .addOption(new Option("--json", "print what happens as JSON lines"))
  .addHelpText(
    "after",
    "\nThe provider dials out, so it works behind any NAT.\n\nExamples:\n  skein provide --model qwen2.5-7b-q4_k_m.gguf\n  skein provide --model llama-3.1-8b-q8_0.gguf --join gateway.example.org:4141 --token …\n  skein provide --engine exact --model qwen2.5-0.5b-instruct-q8_0.gguf\n  skein provide --engine openai --url http://127.0.0.1:11434/v1 --upstream-model llama3.2",
  )
  .action(async (_, command: Command) => (await import("./commands/provide.ts")).provide(command));

client("chat", "talk to a model of the network, in the terminal")
  .argument("[question...]", "ask this and exit; without it, a conversation (or stdin when it is piped)")
  .option("--model <name>", "model (default: the first that is served)")
  .option("--system <text>", "instructions for the model")
  .option("--temperature <n>", "0 to 2", numberBetween(0, 2))
  .option("--max-tokens <n>", "longest answer", wholeNumber(1, answerTokensMax))
  .option("--seed <n>", "the same seed gives the same answer", seedNumber)
  .addHelpText(
    "after",
    "\nIn a conversation: /model NAME, /system TEXT, /reset, /exit; Ctrl-C stops an answer.",
  )
  .action(async (words: string[], _, command: Command) =>
    (await import("./commands/chat.ts")).chat(words, command),
  );

client("models", "list what is served, by how many providers, at what price").action(
  async (_, command: Command) => (await import("./commands/models.ts")).models(command),
);

client("providers", "list providers: measured latency, load, capacity, price")
  .argument("[id]", "one of them, or the beginning of its id: also its reputation, and why")
  .action(async (id: string | undefined, _, command: Command) =>
    (await import("./commands/providers.ts")).providers(id, command),
  );

client("quote", "say what a question would cost, before it is asked")
  .argument("<question...>")
  .option("--model <name>", "model (default: the first that is served)")
  .option("--max-tokens <n>", "longest answer", wholeNumber(1, answerTokensMax))
  .option("--trust <level>", "receipt, exact, audit:5% or replicated:2")
  .action(async (words: string[], _, command: Command) =>
    (await import("./commands/quote.ts")).quote(words, command),
  );

client("why", "say why a request went where it went, and what the alternatives would have cost")
  .argument("<id>", "the answer's id, its skein.request_id, or the header x-request-id")
  .action(async (id: string, _, command: Command) => (await import("./commands/why.ts")).why(id, command));

client("receipt", "fetch the receipts of an answer from the gateway, to check and to keep")
  .argument("<id>", "the answer's id, its skein.request_id, or the header x-request-id")
  .argument("[file]", "where to write it (default: print it)")
  .action(async (id: string, file: string | undefined, _, command: Command) =>
    (await import("./commands/receipt.ts")).receipt(id, file, command),
  );

program
  .command("verify")
  .description("check the receipts of an answer; with the model, compute the whole answer again")
  .argument("<file>", "what `skein receipt` wrote; - reads from stdin")
  .option("--model <model>", "a .skein file, a GGUF file, a folder, or the name of a converted model")
  .option("--calibration <file>", "of the float model (default: the one `skein calibrate` made here, if any)")
  .addOption(jsonOption())
  .addHelpText(
    "after",
    "\nWithout --model: signatures, hashes, counts, price, and how attempts fit together. With it, for models in integers: every number\nand every choice of a token. For float models (llama.cpp): how far each token is from the one drawn here, which is evidence and no proof. Exit codes: 0 everything is right, 1 something is wrong, 2 it cannot be checked.\n\nExample:\n  skein receipt chatcmpl-1f… receipt.json && skein verify receipt.json --model tiny.skein",
  )
  .action(async (file: string, _, command: Command) =>
    (await import("./commands/verify.ts")).verify(file, command),
  );

addAuditCommands(program);
addBatchCommands(program);

const provider = program.command("provider").description("look after a provider");
provider
  .command("status")
  .argument("[id]", "id of the provider, or part of it (default: all)")
  .description("say how much work a provider gets from a gateway, and why not more")
  .addOption(gatewayOption())
  .option("--token <token>", "join token of the gateway, instead of an API key; better in SKEIN_JOIN_TOKEN")
  .addOption(keyOption())
  .addOption(jsonOption())
  .action(async (id: string | undefined, _, command: Command) =>
    (await import("./commands/provider-status.ts")).providerStatus(id, command),
  );

client("doctor", "check this machine, and say what to do about every failure")
  .option("--model <file>", "also check this GGUF file")
  .action(async (_, command: Command) => (await import("./commands/doctor.ts")).doctor(command));

program
  .command("calibrate")
  .description("measure what honest answers of a model look like to an auditor, for the float tier's tests")
  .requiredOption("--model <file>", "GGUF file")
  .option("--streams <n>", "answers to generate and score (default: 700)", wholeNumber(20, 1_000_000))
  .option("--max-tokens <n>", "tokens of an answer (default: 128)", wholeNumber(1, 100_000))
  .option("--context <tokens>", "prompt and answer together (default: the model's, up to 8192)")
  .option("--threads <n>", "CPU threads beside one alone (default: one core is left free)")
  .addOption(new Option("--gpu <mode>", "auto or off (default: auto)").choices(["auto", "off"]))
  .option("--output <file>", "where to write the record (default: calibrations/ in Skein's folder)")
  .addOption(jsonOption())
  .addHelpText(
    "after",
    "\nAnswers come from several prompts, kinds of sampling, thread counts and batch sizes, and are scored by reading them.\ndocs/VERIFICATION.md says what the record is for.",
  )
  .action(async (_, command: Command) => (await import("./commands/calibrate.ts")).calibrate(command));

const config = program
  .command("config")
  .description("show every setting and where its value comes from")
  .addOption(jsonOption())
  .addHelpText("after", "\nFlags come first, then SKEIN_… variables, then the file, then defaults.")
  .action(async (_, command: Command) => (await import("./commands/config.ts")).config(command));
config
  .command("path")
  .description("print where the configuration file is, or would be")
  .addOption(jsonOption())
  .action(async (_, command: Command) => (await import("./commands/config.ts")).configPath(command));

addExactCommands(program);
addEngineCommands(program);

try {
  await program.parseAsync();
} catch (error) {
  explain(error, program.opts()["verbose"] === true);
  // Whatever a half-started command left open must not keep the process alive.
  process.exit(exitCodeOf(error));
}
