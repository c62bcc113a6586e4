/** Entry of a gateway or provider process that `skein up` started. Ends when its parent disappears. */
import { toSkeinError } from "../../util/errors.ts";
import type { GatewayConfig, ProviderConfig, Report, RunningRole } from "./config.ts";

/** Closing takes at most this long; then the process ends anyway. */
const closeTimeoutMs = 6_000;

let running: RunningRole | null = null;
let stopping = false;

function report(message: Report): void {
  if (process.connected) process.send?.(message);
}

async function start(config: GatewayConfig | ProviderConfig): Promise<void> {
  try {
    const { runGateway } =
      config.role === "gateway" ? await import("./run-gateway.ts") : { runGateway: null };
    const { runProvider } =
      config.role === "provider" ? await import("./run-provider.ts") : { runProvider: null };
    running =
      config.role === "gateway" ? await runGateway!(config, report) : await runProvider!(config, report);
    if (stopping) await running.close();
  } catch (error) {
    const { code, message, hint } = toSkeinError(error);
    report({ type: "failed", code, message, hint: hint ?? null });
    process.exitCode = 1;
    process.disconnect?.();
  }
}

async function stop(): Promise<void> {
  if (stopping) return;
  stopping = true;
  // Nobody is left to kill it when the parent has disappeared.
  setTimeout(() => process.exit(1), closeTimeoutMs);
  await running?.close();
  process.exit(0);
}

// Whoever read what is logged may be gone; that is no reason to stop serving.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
process.once("message", (config: GatewayConfig | ProviderConfig) => void start(config));
process.on("disconnect", () => void stop());
process.on("SIGTERM", () => void stop());
// Ctrl-C reaches the whole group; the parent decides the order of stopping.
process.on("SIGINT", () => undefined);
