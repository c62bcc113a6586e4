import type { Command } from "commander";
import { contextOf } from "../context.ts";
import { runUntilStopped } from "../foreground.ts";
import { gatewayConfigOf, type GatewaySecrets } from "../gateway-config.ts";
import type { Report } from "../processes/config.ts";
import { runGateway } from "../processes/run-gateway.ts";
import { step } from "../terminal.ts";

/** `skein gateway` */
export async function gateway(command: Command): Promise<void> {
  const { config, secrets } = gatewayConfigOf(contextOf(command));
  const running = await runGateway(config, (report) => {
    if (report.type === "ready" && report.role === "gateway")
      explain(report, secrets, config.host, config.port);
  });
  await runUntilStopped(running);
}

type Ready = Extract<Report, { type: "ready"; role: "gateway" }>;

function explain(ready: Ready, secrets: GatewaySecrets, host: string, port: number): void {
  step("done", `gateway ${ready.id}`);
  const isPublic = host === "0.0.0.0" || host === "::";
  const address = isPublic ? `<this machine's address>:${port}` : new URL(ready.url).host;
  console.log(`\n  Base URL        ${ready.url}/v1`);
  if (secrets.apiKey !== null) console.log(`  API key         ${secrets.apiKey}`);
  const token = secrets.joinToken === null ? "" : ` --token ${secrets.joinToken}`;
  console.log(`  Add a provider  npx skein provide --model <file.gguf> --join ${address}${token}`);
  console.log("  Stop            Ctrl-C\n");
}
