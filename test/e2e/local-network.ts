/** A gateway and providers, real processes all, for as long as the tests of a file run. */
import { after, before } from "node:test";
import type { GatewayView } from "../../src/protocol/gateway-api.ts";
import { Pool, untilAvailable } from "./pool.ts";
import { killAll, type Running, skein, stop, temporaryHome } from "./processes.ts";

/** Its fields are there once the file's tests run. */
export class LocalNetwork {
  readonly home: ReturnType<typeof temporaryHome> = temporaryHome();
  url = "";
  /** For providers. */
  address = "";
  gateway!: Running;
  /** Providers of `tiny-exact` and of `tiny`. */
  exact!: Pool;
  llama!: Pool;

  async start(members: { readonly exact?: number; readonly llama?: number }): Promise<void> {
    await this.startGateway();
    this.exact = new Pool(this.home.path, "exact", this.url);
    this.llama = new Pool(this.home.path, "llama", this.url);
    const wanted = [
      [this.exact, members.exact ?? 0],
      [this.llama, members.llama ?? 0],
    ] as const;
    await Promise.all(wanted.map(([pool, count]) => pool.grow(count)));
    await Promise.all(wanted.map(([{ model }, count]) => untilAvailable(this.url, model, count)));
  }

  /** Again at the same addresses, if there were some before. */
  async startGateway(): Promise<void> {
    const port = this.url === "" ? "0" : new URL(this.url).port;
    const networkPort = /\/tcp\/(\d+)/.exec(this.address)?.[1] ?? "0";
    this.gateway = skein(this.home.path, "gateway", "--port", port, "--network-port", networkPort);
    this.url = (await this.gateway.printed(/http:\/\/127\.0\.0\.1:\d+/))[0];
    const view = (await (await fetch(`${this.url}/skein/v1/gateway`)).json()) as GatewayView;
    this.address = view.addresses[0]!;
  }

  async stop(): Promise<void> {
    try {
      await stop(this.gateway);
    } finally {
      await killAll();
    }
    this.home.remove();
  }
}

/**
 * @param members how many providers of each engine it begins with
 * @param onReady what a file does once more before its tests: hooks of a file do not wait for each other
 */
export function localNetwork(
  members: { readonly exact?: number; readonly llama?: number },
  onReady: (network: LocalNetwork) => void | Promise<void> = () => undefined,
): LocalNetwork {
  const network = new LocalNetwork();
  before(async () => {
    await network.start(members);
    await onReady(network);
  });
  after(() => network.stop());
  return network;
}
