/**
 * A gateway and providers in one process, over the in-memory network, in simulated time: connections break, providers
 * die, come back, crash, stall, drain and lie, as a seed says. The code is the real one; only time and wires are not.
 */
import { createHash } from "node:crypto";
import { createNaiveEngine, naiveDefaults } from "../../src/engine/naive.ts";
import type { Gateway } from "../../src/gateway/index.ts";
import type { RequestHandler } from "../../src/network/session.ts";
import { createSigner } from "../../src/network/identity.ts";
import { MemoryHub } from "../../src/network/memory.ts";
import type { Signer } from "../../src/protocol/signing.ts";
import type { Provider } from "../../src/provider/index.ts";
import { OwnWhereabouts } from "../../src/router/whereabouts.ts";
import { ManualClock } from "../../src/util/clock.ts";
import { silentLogger } from "../../src/util/log.ts";
import { type Random, seededRandom } from "../../src/util/random.ts";
import { openGateway, providerOf } from "./composition.ts";
import { counting, guessing, LyingWhereabouts } from "./deceiving.ts";
import { type Lie, lies, lying } from "./lying.ts";
import { passUntil } from "./simulated-time.ts";

const answerTokens = 40;
const msPerToken = 5;
/** Providers join, and are probed, before anything happens. */
export const warmUpMs = 1_000;
/** Time moves at least by this much: what happens within it happens together. */
const grainMs = 2;
const limits = { firstTokenTimeoutMs: 6_000, tokenTimeoutMs: 6_000 };
const stallMs = 600;
const lieMs = 1_000;
const crashMs = 500;
const drainMs = 300;
const restartMs = 400;
/** It lies about where it is, and answers pings before they come (lib/deceiving.ts); else it is like the others. */
const deceiverNumber = 3;

interface Place {
  readonly number: number;
  readonly signer: Signer;
  provider: Provider | null;
  engine: ReturnType<typeof createNaiveEngine> | null;
  network: ReturnType<MemoryHub["create"]> | null;
  stalled: boolean;
  lie: Lie | null;
  /** Attempts that it was given. */
  attempts: number;
}

const signers = new Map<number, Promise<Signer>>();
/** @param number -1: the gateway */
function signerOf(number: number): Promise<Signer> {
  const made = signers.get(number) ?? createSigner(seededRandom(2_000 + number).bytes(32));
  signers.set(number, made);
  return made;
}

export class World {
  readonly clock = new ManualClock();
  readonly gateway: Gateway;
  readonly #random: Random;
  readonly #hub: MemoryHub;
  readonly #server: ReturnType<MemoryHub["create"]>;
  readonly #places: Place[] = [];
  readonly #startMs: number;
  readonly #onEvent: (event: string) => void;

  private constructor(
    random: Random,
    gatewayId: string,
    delayMaxMs: number,
    onEvent: (event: string) => void,
  ) {
    this.#random = random;
    this.#startMs = this.clock.monotonicMs();
    this.#onEvent = onEvent;
    const { clock } = this;
    this.#hub = new MemoryHub({
      clock,
      delayMs: () => 1 + random.next() * delayMaxMs,
      onSend: (from, to, frame) => this.#sent(from, to, frame),
    });
    this.#server = this.#hub.create(gatewayId);
    const whereabouts = new OwnWhereabouts({ random });
    this.gateway = openGateway({ clock, random, log: silentLogger, whereabouts }, this.#server, limits);
  }

  static async create(
    random: Random,
    count: number,
    delayMaxMs: number,
    onEvent: (event: string) => void,
  ): Promise<World> {
    const all = Array.from({ length: count }, (_, number) => signerOf(number));
    const providers = await Promise.all(all);
    const gateway = await signerOf(-1);
    const world = new World(random, gateway.providerId, delayMaxMs, onEvent);
    for (const [number, signer] of providers.entries()) {
      const nothing = { provider: null, engine: null, network: null, stalled: false, lie: null, attempts: 0 };
      const place: Place = { number, signer, ...nothing };
      world.#places.push(place);
      world.#start(place);
    }
    await world.pass(warmUpMs);
    return world;
  }

  /** Attempts that the deceiver was given, and each of those that meet the same troubles. */
  get attempts(): { readonly deceiver: number; readonly honest: readonly number[] } {
    const attemptsOf = (number: number): number => this.#places[number]?.attempts ?? 0;
    const honest = this.#places.filter(({ number }) => number > 0 && number !== deceiverNumber);
    return { deceiver: attemptsOf(deceiverNumber), honest: honest.map(({ attempts }) => attempts) };
  }

  get elapsedMs(): number {
    return this.clock.monotonicMs() - this.#startMs;
  }

  pass(byMs: number): Promise<void> {
    return passUntil(this.clock, this.clock.monotonicMs() + byMs, grainMs);
  }

  /** For whoever compares two runs. */
  note(what: string): void {
    this.#onEvent(`${this.elapsedMs.toFixed(6)} ${what}`);
  }

  #sent(from: string, to: string, frame: Uint8Array): void {
    const digest = createHash("sha256").update(frame).digest("hex").slice(0, 16);
    this.note(`${from.slice(-6)} > ${to.slice(-6)} frame ${frame[0]}, ${frame.length} bytes ${digest}`);
  }

  #start(place: Place): void {
    const { clock } = this;
    const isDeceiver = place.number === deceiverNumber;
    const whereabouts = isDeceiver
      ? new LyingWhereabouts({ random: this.#random })
      : new OwnWhereabouts({ random: this.#random });
    const deps = { clock, random: this.#random, log: silentLogger, whereabouts };
    const onToken = (): Promise<void> | void => (place.stalled ? new Promise(() => undefined) : undefined);
    place.engine = createNaiveEngine({ clock }, { ...naiveDefaults, answerTokens, msPerToken, onToken });
    place.network = this.#hub.create(place.signer.providerId);
    const around = (handler: RequestHandler): RequestHandler =>
      counting(
        lying(handler, () => place.lie),
        () => (place.attempts += 1),
      );
    const network = isDeceiver ? guessing(place.network, clock) : place.network;
    const region = isDeceiver ? "here" : "there";
    place.provider = providerOf(deps, network, place.signer, place.engine, around, region);
    place.provider.join(this.#server.addresses()[0]!);
  }

  /** Something happens to somebody; never to the last one that is well. */
  trouble(): void {
    const place = this.#places[1 + Math.floor(this.#random.next() * (this.#places.length - 1))]!;
    const troubles: readonly (readonly [string, () => void])[] = [
      ["cut", () => place.network?.cut()],
      ["kill", () => this.#kill(place)],
      ["stall", () => this.#stall(place)],
      ["lie", () => this.#lie(place)],
      ["crash", () => this.#crash(place)],
      ["drain", () => this.#drain(place)],
    ];
    const [name, happen] = troubles[Math.floor(this.#random.next() * troubles.length)]!;
    this.note(`${name} of ${place.number}`);
    happen();
  }

  #stall(place: Place): void {
    place.stalled = true;
    this.clock.schedule(stallMs, () => (place.stalled = false));
  }

  #lie(place: Place): void {
    place.lie = lies[Math.floor(this.#random.next() * lies.length)]!;
    this.clock.schedule(lieMs, () => (place.lie = null));
  }

  #crash({ engine }: Place): void {
    engine?.become({ state: "restarting", reason: "it crashed" });
    this.clock.schedule(crashMs, () => engine?.become({ state: "ready" }));
  }

  /** Cut off without a word, and started anew. */
  #kill(place: Place): void {
    if (place.provider === null) return;
    place.network!.cut();
    this.#end(place);
  }

  #drain(place: Place): void {
    const { provider } = place;
    if (provider === null) return;
    void provider.drain(drainMs).then(() => {
      if (place.provider === provider) this.#end(place);
    });
  }

  #end(place: Place): void {
    void place.provider!.close();
    void place.network!.close();
    place.provider = null;
    this.clock.schedule(restartMs, () => this.#start(place));
  }

  /** What is still taken although nobody asks for anything any more. */
  async leftovers(): Promise<string[]> {
    const found: string[] = [];
    for (const { number, engine } of this.#places) {
      const { active, queued } = engine!.load();
      if (active + queued > 0) found.push(`provider ${number} still works on ${active + queued} requests`);
    }
    const metrics = await (await this.gateway.fetch(new Request("http://127.0.0.1/metrics"))).text();
    for (const name of ["skein_attempts_in_flight", "skein_requests_waiting"]) {
      const [, value] = new RegExp(`^${name} (\\S+)$`, "m").exec(metrics) ?? [];
      if (value !== "0") found.push(`${name} is ${value}`);
    }
    return found;
  }

  async close(): Promise<void> {
    this.gateway.close();
    for (const { provider } of this.#places) await provider?.close();
  }
}
