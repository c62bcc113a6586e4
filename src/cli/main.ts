/** The command line: which commands there are. Each is loaded only when it is used. */
import { Command, Option } from "commander";
import { addAuditCommands } from "./audit-commands.ts";
import { endWithReader, exitCodeOf, exitCodesHelp, explain } from "./exit.ts";
import { collectBias, collectList, collectTexts, numberBetween, wholeNumber } from "./flags.ts";
import { endWithLauncher } from "./launcher.ts";
import { packageVersion } from "./package-info.ts";

/** More providers than this on one machine starve each other. */
const providersMax = 16;
/** Longer answers than any model gives. */
const answerTokensMax = 100_000_000;

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

const gatewayOption = (): Option =>
  new Option("--gateway <url>", "gateway to ask (default: http://127.0.0.1:4141)");
const keyOption = (): Option => new Option("--api-key <key>", "API key for it; better in SKEIN_API_KEY");
const seedNumber = wholeNumber(-Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
const jsonOption = (): Option => new Option("--json", "print JSON");
const bitsOption = (): Option =>
  new Option(
    "--bits <n>",
    "of weights converted for the exact engine: 8, or 4 for half the size at some loss (default: 8)",
  ).choices(["8", "4"]);

const threadsOption = (): Option =>
  new Option(
    "--threads <n>",
    "CPU threads of the model, at most one for each core (default: one core is left free)",
  );

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
  .option("--url <url>", "with --engine openai: base URL of the server")
  .option("--upstream-model <name>", "with --engine openai: which of its models")
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
  .option("--parallel <n>", "requests generated at the same time (default: 4)")
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
  .addOption(jsonOption())
  .addHelpText(
    "after",
    "\nWithout --model: signatures, hashes, counts, price, and how attempts fit together. With it, for models in integers: every number\nand every choice of a token. Exit codes: 0 everything is right, 1 something is wrong, 2 it cannot be checked.\n\nExample:\n  skein receipt chatcmpl-1f… receipt.json && skein verify receipt.json --model tiny.skein",
  )
  .action(async (file: string, _, command: Command) =>
    (await import("./commands/verify.ts")).verify(file, command),
  );

addAuditCommands(program, { gatewayOption, keyOption, jsonOption });

const batch = program
  .command("batch")
  .description("many requests in a file, answered at low priority and price");
/** A command about batches, which asks a gateway. */
function batchCommand(usage: string, description: string): Command {
  return batch
    .command(usage)
    .description(description)
    .addOption(gatewayOption())
    .addOption(keyOption())
    .addOption(jsonOption());
}
batchCommand("submit <file>", "hand in a JSONL file of requests, and watch it until its end")
  .option("--detach", "do not watch")
  .option("--window <hours>", "give up what is not answered by then: 1h to 168h", "24h")
  .option("--output <file>", "where to write the answers")
  .option("--errors <file>", "where to write the lines that failed")
  .addHelpText(
    "after",
    '\nEach line of the file: {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {…}}\n\nExample:\n  skein batch submit questions.jsonl --output answers.jsonl',
  )
  .action(async (file: string, _, command: Command) =>
    (await import("./commands/batch.ts")).submitBatch(file, command),
  );
batchCommand("status [id]", "say how far a batch is (default: the latest ones)").action(
  async (id: string | undefined, _, command: Command) =>
    (await import("./commands/batch.ts")).batchStatus(id, command),
);
batchCommand("download <id>", "write the answers of a batch that has ended")
  .option("--output <file>", "default: stdout")
  .option("--errors <file>", "where to write the lines that failed")
  .action(async (id: string, _, command: Command) =>
    (await import("./commands/batch.ts")).downloadBatch(id, command),
  );
batchCommand("cancel <id>", "end a batch; what is answered is kept").action(
  async (id: string, _, command: Command) => (await import("./commands/batch.ts")).cancelBatch(id, command),
);

const provider = program.command("provider").description("look after a provider");
provider
  .command("status")
  .argument("[id]", "id of the provider, or part of it (default: all)")
  .description("say how much work a provider gets from a gateway, and why not more")
  .addOption(gatewayOption())
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

const exact = program
  .command("exact")
  .description("models in integers: the same bits on every machine; convert, look at, run and check them");
const fileArgument = "a .skein file, or a GGUF file or a folder from Hugging Face (converted once, and kept)";
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
    (await import("./commands/exact/convert.ts")).convert(model, output, command),
  );
exact
  .command("inspect <file>")
  .description("show what a .skein file holds: identity, shape, sizes, tokenizer, template")
  .addOption(jsonOption())
  .action(async (file: string, _, command: Command) =>
    (await import("./commands/exact/inspect.ts")).inspect(file, command),
  );
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
    (await import("./commands/exact/run.ts")).run(file, words, command),
  );
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
    (await import("./commands/exact/check.ts")).check(file, command),
  );

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
    (await import("./commands/engine.ts")).addEngine(name, command),
  );
engine
  .command("list")
  .description("show what is installed")
  .addOption(jsonOption())
  .action(async (_, command: Command) => (await import("./commands/engine.ts")).listEngines(command));
engine
  .command("remove <engine>")
  .description("remove an engine from the user's folder")
  .action(async (name: string, _, command: Command) =>
    (await import("./commands/engine.ts")).removeEngine(name, command),
  );

try {
  await program.parseAsync();
} catch (error) {
  explain(error, program.opts()["verbose"] === true);
  // Whatever a half-started command left open must not keep the process alive.
  process.exit(exitCodeOf(error));
}
