/** The beacon as a port: public chance that nobody knew when the receipts it chooses from were committed. */
import { sha256, utf8 } from "../util/bytes.ts";
import { abortError } from "../util/abort.ts";
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import type { Random } from "../util/random.ts";
import { BeaconRound, commitmentOf, membersMax, type RoundResult, secretBytes } from "./beacon-round.ts";

export interface BeaconSource {
  /** The first round whose value nobody can know yet at this time: it chooses among receipts committed until then. */
  roundAt(nowMs: number): number;
  /**
   * The value of a round, 32 bytes; waits until it is there.
   * @throws SkeinError `not_found` for rounds that are over and unknown here, or that nobody revealed; `cancelled`
   */
  value(round: number, signal: AbortSignal): Promise<Uint8Array>;
}

/** Values from a fixed secret, for tests: whoever knows the secret knows them all. */
export function createLocalBeacon(secret: Uint8Array, roundMs: number): BeaconSource {
  return {
    roundAt: (nowMs) => Math.floor(nowMs / roundMs),
    value: (round) => sha256(utf8(`skein-local-beacon-v1\0${round}\0`), secret),
  };
}

export type BeaconMessage =
  | { readonly type: "commit"; readonly round: number; readonly commitment: Uint8Array }
  | { readonly type: "reveal"; readonly round: number; readonly secret: Uint8Array };

/** How members reach each other. Whoever implements it proves who sent a message; one gateway alone needs none. */
export interface BeaconChannel {
  /** To all other members. */
  send(message: BeaconMessage): void;
  /** @returns a function that unsubscribes */
  onMessage(listener: (member: string, message: BeaconMessage) => void): () => void;
}

export const aloneChannel: BeaconChannel = { send: () => undefined, onMessage: () => () => undefined };

export interface BeaconOptions {
  readonly gatewayId: string;
  /** Who takes part in a round; all of them must give the same answer. Of more than `membersMax`, the first by id. */
  members(round: number): readonly string[];
  /** Rounds follow each other by the wall clock; all members use the same length. */
  readonly roundMs: number;
}

/**
 * Parts of a round: commitments, then secrets, then a rest. Clocks may differ by a fraction of a round; members whose
 * clocks differ by more may count others, and `result` tells whom.
 */
const commitShare = 0.4;
const revealShare = 0.8;
/** Results that are kept for audits that come late. */
const resultsMax = 1_024;

interface OpenRound {
  readonly round: BeaconRound;
  readonly secret: Uint8Array;
  /** Secrets that came while commitments were still taken here, by member. */
  readonly early: Map<string, Uint8Array>;
}

export interface CommitRevealBeacon extends BeaconSource {
  /** Who took part in a round, and who kept its secret; undefined while it is not over. */
  result(round: number): RoundResult | null | undefined;
  close(): void;
}

/** Takes part in every round, beginning with the next one. */
export function createBeacon(
  deps: { clock: Clock; random: Random; channel: BeaconChannel },
  options: BeaconOptions,
): CommitRevealBeacon {
  const { clock, random, channel } = deps;
  const { gatewayId, roundMs } = options;
  const open = new Map<number, OpenRound>();
  const results = new Map<number, RoundResult | null>();
  const waiting = new Set<(round: number) => void>();
  let isClosed = false;
  let cancelTimer = (): void => undefined;

  const startMs = (round: number): number => round * roundMs;
  const later = (atMs: number, act: () => void): void => {
    cancelTimer = clock.schedule(Math.max(0, atMs - clock.nowMs()), act);
  };

  async function begin(number: number): Promise<void> {
    const secret = random.bytes(secretBytes);
    const members = [...new Set(options.members(number))].toSorted().slice(0, membersMax);
    // Nobody: there is no value.
    if (members.length === 0) return;
    const round = new BeaconRound(number, members);
    open.set(number, { round, secret, early: new Map() });
    const commitment = await commitmentOf(number, gatewayId, secret);
    if (isClosed || round.commit(gatewayId, commitment) !== null) return;
    channel.send({ type: "commit", round: number, commitment });
  }

  async function reveal(number: number): Promise<void> {
    const current = open.get(number);
    if (current === undefined) return;
    current.round.beginReveal();
    for (const [member, secret] of current.early) void current.round.reveal(member, secret);
    if ((await current.round.reveal(gatewayId, current.secret)) !== null || isClosed) return;
    channel.send({ type: "reveal", round: number, secret: current.secret });
  }

  async function settle(number: number): Promise<void> {
    const result = (await open.get(number)?.round.close()) ?? null;
    open.delete(number);
    results.set(number, result);
    if (results.size > resultsMax) results.delete(results.keys().next().value!);
    for (const wake of waiting) wake(number);
  }

  function run(number: number): void {
    if (isClosed) return;
    void begin(number);
    later(startMs(number) + commitShare * roundMs, () => {
      void reveal(number);
      later(startMs(number) + revealShare * roundMs, () => {
        void settle(number);
        later(startMs(number + 1), () => run(number + 1));
      });
    });
  }

  const unsubscribe = channel.onMessage((member, message) => {
    const current = open.get(message.round);
    // A message for a round that is not open here is late, or of somebody whose clock is wrong.
    if (current === undefined) return;
    if (message.type === "commit") current.round.commit(member, message.commitment);
    else if (current.round.phase !== "commit") void current.round.reveal(member, message.secret);
    // Its clock is ahead of this one's.
    else if (current.round.isMember(member)) current.early.set(member, message.secret);
  });
  const firstRound = Math.floor(clock.nowMs() / roundMs) + 1;
  later(startMs(firstRound), () => run(firstRound));

  return {
    // Own secrets are made when a round begins; those of the round that runs may be known from its reveal on.
    roundAt: (nowMs) => Math.max(firstRound, Math.floor(nowMs / roundMs + 1 - commitShare)),
    result: (round) => results.get(round),
    async value(round, signal) {
      if (!results.has(round)) {
        if (round < firstRound || startMs(round + 1) < clock.nowMs()) throw unknownRound(round);
        await settled(round, waiting, signal);
      }
      const result = results.get(round) ?? null;
      if (result === null) throw unknownRound(round);
      return result.value;
    },
    close() {
      isClosed = true;
      cancelTimer();
      unsubscribe();
    },
  };
}

function settled(round: number, waiting: Set<(round: number) => void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      waiting.delete(wake);
      reject(abortError(signal));
    };
    const wake = (number: number): void => {
      if (number < round) return;
      waiting.delete(wake);
      signal.removeEventListener("abort", onAbort);
      resolve();
    };
    if (signal.aborted) return onAbort();
    waiting.add(wake);
    signal.addEventListener("abort", onAbort, { once: true });
  });
}

function unknownRound(round: number): SkeinError {
  return new SkeinError("not_found", `There is no beacon of round ${round}.`, {
    hint: "Its members revealed nothing, or this gateway did not take part. Receipts of that time fall to the next round.",
  });
}
