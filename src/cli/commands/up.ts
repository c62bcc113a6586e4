import { join } from "node:path";
import type { Command } from "commander";
import { type Client, createClient } from "../../client/client.ts";
import { exactNameOf } from "../../engine/exact/name.ts";
import { usdToNano } from "../../protocol/price.ts";
import { type Clock, systemClock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import { type Context, contextOf } from "../context.ts";
import { engineStateOf, findLlamaEngine, installLlamaEngine, userEngineFolder } from "../engine-install.ts";
import { exitCodes } from "../exit.ts";
import { stopSignal } from "../foreground.ts";
import { gatewayConfigOf, type GatewaySecrets } from "../gateway-config.ts";
import { secretRows } from "../gateway-summary.ts";
import { keepRunning, type RestartEvent } from "../keep-running.ts";
import { runNpm } from "../npm.ts";
import { demoModelFile, packageFolder } from "../package-info.ts";
import type { GatewayConfig, ProviderConfig, Report } from "../processes/config.ts";
import { providerConfigOf, threadsWarning } from "../provider-config.ts";
import { createSupervisor, type Supervisor } from "../supervisor.ts";
import { isUsualGateway, provideCommand, reportLine, seconds, step, styled } from "../terminal.ts";

/** From the last provider's start until the gateway has probed all of them. */
const readyTimeoutMs = 120_000;
/** npm is asked to stop, then killed, and what it wrote is removed. */
const installStopTimeoutMs = 5_000;
/** The demo's prices in USD per million tokens, when none are configured. */
const demoPrice = { input: "0.02", output: "0.04" };

/** `skein up` */
export async function up(command: Command): Promise<void> {
  const startMs = performance.now();
  const context = contextOf(command);
  const signal = stopSignal();
  const supervisor = createSupervisor();
  // While a process waits to be started again nothing else may keep this one alive.
  const alive = setInterval(() => undefined, 60_000);
  try {
    const running = start({ context, supervisor, signal, clock: systemClock }, startMs);
    await Promise.race([running, aborted(signal)]);
    await aborted(signal);
    console.error("\nStopping …");
    process.once("SIGINT", () => process.exit(exitCodes.interrupted));
    // The installation of the engine, if that is what runs, removes what it began.
    await Promise.all([supervisor.stopAll(), Promise.race([running.catch(() => undefined), giveUp()])]);
  } finally {
    await supervisor.stopAll();
    clearInterval(alive);
  }
  process.exit(exitCodes.done);
}

interface Network {
  readonly context: Context;
  readonly supervisor: Supervisor;
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function giveUp(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, installStopTimeoutMs).unref());
}

async function start(network: Network, startMs: number): Promise<void> {
  const { context, signal } = network;
  const count = context.flags["providers"] as number;
  const exactCount = (context.flags["exact"] as number | undefined) ?? (isDemo(context) ? 1 : 0);
  const warning = threadsWarning(context.settings.threads);
  if (warning !== null) step("warning", warning);
  // 1. The engine.
  await ensureEngine(context, signal);
  // 2. The gateway.
  const gatewayStartMs = performance.now();
  const { config, secrets } = networkConfig(context);
  const { url } = await keepGateway(network, config);
  step("done", `gateway at ${url} (${seconds(gatewayStartMs)})`);
  // 3. The providers, side by side.
  const providersStartMs = performance.now();
  const joinToken = config.restrictJoin?.token ?? null;
  const kinds = [...Array(count).fill("llama"), ...Array(exactCount).fill("exact")] as ("llama" | "exact")[];
  await Promise.all(
    kinds.map((kind, i) =>
      keepProvider(network, providerConfig(context, i + 1, kind, url, joinToken), `provider ${i + 1}`),
    ),
  );
  // 4. Ready means: the gateway had a real answer from each.
  const client = createClient({ baseUrl: url, apiKey: config.apiKeys[0] ?? null, fetch });
  const model = await untilServed(client, "llama", count, providersStartMs);
  await untilServed(client, "exact", exactCount, providersStartMs);
  const showSecrets = context.flags["showSecrets"] === true;
  console.log(instructions({ url, model, secrets, showSecrets, took: seconds(startMs) }));
}

async function ensureEngine({ home }: Context, signal: AbortSignal): Promise<void> {
  if (findLlamaEngine(home) !== null) return;
  const startMs = performance.now();
  step("doing", "installing the llama.cpp engine (once; about 100 MB)");
  // What the user installed is renewed as it was. Else a checkout keeps its engine beside itself; an installed
  // package may lie where nobody may write.
  const own = engineStateOf(userEngineFolder(home));
  const bundled = own.state === "none" && !packageFolder.includes("node_modules");
  const onOutput = (line: string): void => step("doing", line);
  await installLlamaEngine(home, { gpu: own.gpu, bundled, signal, onOutput, runNpm });
  step("done", `llama.cpp engine installed (${seconds(startMs)})`);
}

function networkConfig(context: Context): { config: GatewayConfig; secrets: GatewaySecrets } {
  const { config, secrets } = gatewayConfigOf(context);
  const { port, sources } = { port: config.port, sources: context.resolved.sources };
  // With a free port for HTTP, a fixed one for providers would still collide.
  const networkPort = port === 0 && sources.networkPort === "default" ? 0 : config.networkPort;
  const identityFile = join(context.home, "up", "gateway.key");
  return { config: { ...config, networkPort, identityFile }, secrets };
}

function isDemo({ flags }: Context): boolean {
  return flags["model"] === undefined;
}

function providerConfig(
  context: Context,
  number: number,
  kind: "llama" | "exact",
  gatewayUrl: string,
  joinToken: string | null,
): ProviderConfig {
  const { sources } = context.resolved;
  const { flags } = context;
  const model = (flags["model"] as string | undefined) ?? demoModelFile;
  const asked = (flags["name"] as string | undefined) ?? (isDemo(context) ? "tiny" : undefined);
  // A name stands for one model; in another engine it is another.
  const name = asked !== undefined && kind === "exact" ? exactNameOf(asked) : asked;
  const base = providerConfigOf(
    { ...context, flags: { ...flags, model, name, engine: kind } },
    join(context.home, "up", `provider-${number}.key`),
  );
  return {
    ...base,
    join: [gatewayUrl],
    joinToken,
    region: base.region || "local",
    price: {
      ...base.price,
      ...(sources.priceInput === "default" ? { inputPerMillionTokens: usdToNano(demoPrice.input)! } : {}),
      ...(sources.priceOutput === "default" ? { outputPerMillionTokens: usdToNano(demoPrice.output)! } : {}),
    },
    // Several providers share this machine.
    engine:
      base.engine.kind === "openai"
        ? base.engine
        : { ...base.engine, threads: context.settings.threads === null ? 1 : base.engine.threads },
  };
}

/** Starts the gateway, and again whenever it dies: where it was, because providers and clients know it there. */
async function keepGateway(network: Network, config: GatewayConfig): Promise<{ url: string }> {
  let current = config;
  const { ready } = await keepRunning(
    network,
    () => network.supervisor.start(current, () => undefined),
    (event) => tellRestart("the gateway", event),
  );
  const networkPort = /\/tcp\/(\d+)/.exec(ready.addresses[0] ?? "")?.[1];
  current = {
    ...config,
    port: Number(new URL(ready.url).port || config.port),
    networkPort: Number(networkPort ?? config.networkPort),
  };
  return { url: ready.url };
}

/** Starts a provider, and again whenever it dies. Resolves when it runs for the first time. */
async function keepProvider(network: Network, config: ProviderConfig, title: string): Promise<void> {
  const onReport = (report: Report): void => {
    const line = reportLine(report);
    if (line !== null && (report.type === "engine" || report.type === "lost") && !network.signal.aborted)
      step("warning", `${title}: ${line}`);
  };
  await keepRunning(
    network,
    () => network.supervisor.start(config, onReport),
    (event) => tellRestart(title, event),
  );
}

function tellRestart(title: string, event: RestartEvent): void {
  if (event.type === "again") return step("done", `${title} runs again`);
  const again = `in ${event.retryInMs / 1000} s`;
  if (event.type === "ended") step("warning", `${title} ended (${event.how}); starting it again ${again}`);
  else step("warning", `${title} does not start: ${event.error.message} Trying again ${again}.`);
}

/** Waits until the gateway had an answer from all providers of a kind; returns the name of what they serve. */
async function untilServed(
  client: Client,
  kind: "llama" | "exact",
  count: number,
  startMs: number,
): Promise<string> {
  if (count === 0) return "";
  const endMs = performance.now() + readyTimeoutMs;
  for (;;) {
    const models = await client.models();
    const model = models.find(({ skein }) => skein.engines.includes(kind));
    if (model !== undefined && model.skein.providers >= count) {
      const who = `${count}${kind === "exact" ? " exact" : ""} ${count === 1 ? "provider serves" : "providers serve"}`;
      step("done", `${who} '${model.id}' (${seconds(startMs)})`);
      return model.id;
    }
    if (performance.now() > endMs) {
      throw new SkeinError(
        "no_provider",
        `Only ${model?.skein.providers ?? 0} of ${count} providers answered in time.`,
        {
          hint: "`skein doctor` checks this machine; --verbose shows more.",
        },
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function instructions(facts: {
  url: string;
  model: string;
  secrets: GatewaySecrets;
  showSecrets: boolean;
  took: string;
}): string {
  const { url, model, secrets, took } = facts;
  const gateway = isUsualGateway(url) ? "" : ` --gateway ${url}`;
  const body = `{"model": "${model}", "messages": [{"role": "user", "content": "What sound does a cow make?"}]}`;
  const bold = (text: string): string => styled("bold", text);
  const hasKey = secrets.apiKey !== null;
  const secretLines = secretRows(secrets, facts.showSecrets).map(
    ([name, text]) => `  ${name.padEnd(12)}${text}\n`,
  );
  return `
${bold("Skein runs")} (${took}). Base URL for any OpenAI client:

  ${bold(`${url}/v1`)}
${secretLines.length === 0 ? "" : `\n${secretLines.join("")}`}
Try it:

  curl ${url}/v1/chat/completions ${hasKey ? "-H 'authorization: Bearer <API key>' " : ""}-H 'content-type: application/json' -d '${body}'
  npx skein chat${gateway}${hasKey ? " --api-key <API key>" : ""}

Add a provider, from another terminal:

  ${provideCommand(url)}${secrets.joinToken === null ? "" : " --token <join token>"}

Ctrl-C stops everything.`;
}
