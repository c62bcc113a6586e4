/** Providers that die and come back. */
import type { ProviderView } from "../../src/protocol/gateway-api.ts";
import { eventually, type Running, skein, tinyModel } from "./processes.ts";

type Member = Running & { readonly id: string };

/** Providers of one model; each that ends is replaced by a new one. */
export class Pool {
  readonly model: string;
  readonly #start: () => Promise<Member>;
  #members: Member[] = [];
  #starting: Promise<void>[] = [];
  #startingCount = 0;

  constructor(home: string, engine: "llama" | "exact", join: string) {
    this.model = engine === "exact" ? "tiny-exact" : "tiny";
    const args = ["--engine", engine, "--model", tinyModel, "--name", this.model, "--join", join, "--json"];
    const own = ["--parallel", "8", ...(engine === "llama" ? ["--threads", "1"] : [])];
    this.#start = async () => {
      const running = skein(home, "provide", ...args, ...own);
      const [, id] = await running.printed(/"type":"ready".*"id":"([^"]+)"/);
      await running.printed(/"type":"joined"/);
      return { ...running, id: id! };
    };
  }

  get members(): readonly Member[] {
    return this.#members;
  }

  /** With those that are starting. */
  get size(): number {
    return this.#members.length + this.#startingCount;
  }

  async grow(count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, () => this.#add()));
  }

  async #add(): Promise<void> {
    this.#startingCount += 1;
    try {
      const member = await this.#start();
      this.#members = [...this.#members, member];
    } finally {
      this.#startingCount -= 1;
    }
  }

  /** Takes one out, and starts a new one in its place. */
  replace(id: string, signal: NodeJS.Signals): Promise<void> {
    this.remove(id, signal);
    const starting = this.#add();
    this.#starting.push(starting);
    return starting;
  }

  remove(id: string, signal: NodeJS.Signals): Member | undefined {
    const member = this.#members.find((other) => other.id === id);
    this.#members = this.#members.filter((other) => other !== member);
    member?.child.kill(signal);
    return member;
  }

  /** Resolves when all that were replaced are there again. */
  async complete(): Promise<void> {
    await Promise.all(this.#starting);
  }
}

export async function providersOf(url: string, model: string): Promise<ProviderView[]> {
  const { data } = (await (await fetch(`${url}/skein/v1/providers`)).json()) as { data: ProviderView[] };
  return data.filter(({ models }) => models.some(({ name }) => name === model));
}

export function untilAvailable(url: string, model: string, count: number): Promise<true> {
  return eventually(`${count} providers of ${model}`, async () => {
    const available = (await providersOf(url, model)).filter(({ state }) => state === "available");
    return available.length >= count ? true : null;
  });
}
