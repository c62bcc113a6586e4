import { networkInterfaces } from "node:os";
import type { Command } from "commander";
import { contextOf } from "../context.ts";
import { runUntilStopped } from "../foreground.ts";
import { gatewayConfigOf } from "../gateway-config.ts";
import { gatewaySummary } from "../gateway-summary.ts";
import { runGateway } from "../processes/run-gateway.ts";
import { step } from "../terminal.ts";

/** `skein gateway` */
export async function gateway(command: Command): Promise<void> {
  const context = contextOf(command);
  const { config, secrets } = gatewayConfigOf(context);
  const running = await runGateway(config, (report) => {
    if (report.type !== "ready" || report.role !== "gateway") return;
    step("done", `gateway ${report.id}`);
    const showSecrets = context.flags["showSecrets"] === true;
    console.log(gatewaySummary({ ...report, host: config.host, secrets, showSecrets }, networkInterfaces()));
  });
  await runUntilStopped(running);
}
