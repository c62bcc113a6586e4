/** A gateway and providers, real processes all, for as long as the tests of a file run. */
import { after, before } from "node:test";
import { Pool, untilAvailable } from "./pool.ts";
import { killAll, type Running, skein, stop, temporaryHome } from "./processes.ts";

/** Its fields are there once the file's tests run. */
export class LocalNetwork {
  readonly home: ReturnType<typeof temporaryHome> = temporaryHome();
  url = "";
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

  /** Again at the same address, if there was one before. */
  async startGateway(): Promise<void> {
    const port = this.url === "" ? "0" : new URL(this.url).port;
    this.gateway = skein(this.home.path, "gateway", "--port", port, "--network-port", "0");
    this.url = (await this.gateway.printed(/http:\/\/127\.0\.0\.1:\d+/))[0];
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
  onReady: (network: LocalNetwork) => void = () => undefined,
): LocalNetwork {
  const network = new LocalNetwork();
  before(async () => {
    await network.start(members);
    onReady(network);
  });
  after(() => network.stop());
  return network;
}
