/** Receipts that wait for the beacon of their round, and those that it chose. */
import { chatTexts } from "../../protocol/chat-texts.ts";
import type { BeaconSource } from "../../audit/beacon.ts";
import type { AuditSource, AuditTask } from "../../audit/ports.ts";
import { type AuditShare, isSelected } from "../../audit/selection.ts";
import type { Finding } from "../../audit/verdict.ts";
import { SkeinError } from "../../util/errors.ts";
import type { AuditFacts } from "./log.ts";

/** A receipt, and what the auditor needs that its task does not hold. */
export interface GatewayTask extends AuditTask {
  readonly facts: AuditFacts;
  readonly part: number;
  /** What is known to be wrong without computing it; see `Audits.outvoted`. */
  readonly finding?: Finding;
  /** The same in words. */
  readonly problem?: string;
}

export interface Committed {
  readonly task: GatewayTask;
  readonly share: AuditShare;
}

/** Receipts that wait in all. Of more, the newest are not audited: each answer's chance is the same, whoever gave it. */
const waitingMax = 10_000;
/** Characters of prompts and answers that wait with them. */
const waitingCharactersMax: number = 64 * 2 ** 20;
/** Chosen ones that wait for their audit. */
const chosenMax = 1_000;

/** Chosen ones for which there is no room, that are told of in one round; the others are only counted. */
const droppedToldMax = 100;

export class PendingReceipts implements AuditSource {
  readonly #beacon: BeaconSource;
  readonly #onDropped: (task: GatewayTask) => void;
  #dropped = 0;
  readonly #rounds = new Map<number, Committed[]>();
  #waiting = 0;
  #characters = 0;
  /** Asked for, not chosen by chance: these go first. */
  readonly #asked: GatewayTask[] = [];
  readonly #chosen: GatewayTask[] = [];
  /** Given out, and not back yet. */
  #running = 0;
  readonly #sleepers = new Set<() => void>();

  /** @param onDropped a receipt was chosen, but too many wait for their audit */
  constructor(beacon: BeaconSource, onDropped: (task: GatewayTask) => void) {
    this.#beacon = beacon;
    this.#onDropped = onDropped;
  }

  /** Receipts that would have been audited, or might have been, with more room. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Receipts and chosen ones that wait. */
  get lengths(): { readonly waiting: number; readonly chosen: number } {
    return { waiting: this.#waiting, chosen: this.#chosen.length + this.#asked.length + this.#running };
  }

  /** @returns whether there was room */
  add(committed: Committed): boolean {
    const { round } = committed.task;
    const characters = charactersOf(committed.task);
    if (this.#waiting >= waitingMax || this.#characters + characters > waitingCharactersMax) {
      this.#dropped += 1;
      return false;
    }
    this.#waiting += 1;
    this.#characters += characters;
    this.#rounds.set(round, [...(this.#rounds.get(round) ?? []), committed]);
    this.#wake();
    return true;
  }

  /** @throws SkeinError `overloaded` */
  ask(task: GatewayTask): void {
    if (this.#asked.length >= chosenMax) {
      throw new SkeinError("overloaded", `${this.#asked.length} audits wait already.`, {
        hint: "Try again later.",
      });
    }
    this.#asked.push(task);
    this.#wake();
  }

  async *tasks(signal: AbortSignal): AsyncGenerator<GatewayTask> {
    const choosing = this.#choose(signal);
    signal.addEventListener("abort", () => this.#wake(), { once: true });
    try {
      while (!signal.aborted) {
        const task = this.#asked.shift() ?? this.#chosen.shift();
        if (task === undefined) {
          await this.#change(signal);
          continue;
        }
        this.#running = 1;
        yield task;
        this.#running = 0;
      }
    } finally {
      await choosing;
    }
  }

  /** Round after round, as their beacons come. */
  async #choose(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const round = Math.min(...this.#rounds.keys());
      if (round === Number.POSITIVE_INFINITY) {
        await this.#change(signal);
        continue;
      }
      const value = await this.#beacon.value(round, signal).catch((error: unknown) => {
        if (error instanceof SkeinError && error.code === "not_found") return null;
        return signal.aborted ? undefined : null;
      });
      if (value === undefined) return;
      if (value === null) this.#postpone(round);
      else await this.#chooseFrom(round, value);
    }
  }

  /** Until there may be something to do. */
  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) resolve();
      else this.#sleepers.add(resolve);
    });
  }

  #wake(): void {
    const sleepers = [...this.#sleepers];
    this.#sleepers.clear();
    for (const wake of sleepers) wake();
  }

  /** Nobody revealed anything: the next round decides. */
  #postpone(round: number): void {
    const committed = this.#rounds.get(round) ?? [];
    this.#rounds.delete(round);
    const next = round + 1;
    const moved = committed.map(({ task, share }) => ({ task: { ...task, round: next }, share }));
    this.#rounds.set(next, [...moved, ...(this.#rounds.get(next) ?? [])]);
  }

  async #chooseFrom(round: number, beacon: Uint8Array): Promise<void> {
    const committed = this.#rounds.get(round) ?? [];
    this.#rounds.delete(round);
    const found: GatewayTask[] = [];
    for (const { task, share } of committed) {
      if (await isSelected(beacon, task.receiptHash, share)) found.push(task);
    }
    // One model after the other: each is loaded once.
    found.sort((a, b) => (a.modelId < b.modelId ? -1 : Number(a.modelId > b.modelId)));
    for (const { task } of committed) this.#characters -= charactersOf(task);
    this.#waiting -= committed.length;
    const room = Math.max(0, chosenMax - this.#chosen.length);
    this.#chosen.push(...found.slice(0, room));
    const dropped = found.slice(room);
    this.#dropped += dropped.length;
    for (const task of dropped.slice(0, droppedToldMax)) this.#onDropped(task);
    this.#wake();
  }
}

function charactersOf({ facts }: GatewayTask): number {
  const { prompt, parts } = facts.answer;
  const ofPrompt =
    prompt === null
      ? 0
      : prompt.kind === "text"
        ? prompt.text.length + (prompt.suffix ?? "").length
        : prompt.kind === "chat"
          ? chatTexts(prompt).reduce((sum, { length }) => sum + length, 0)
          : 4 * prompt.tokenIds.length;
  return (
    ofPrompt + parts.reduce((sum, { text, tokenIds }) => sum + text.length + 4 * (tokenIds?.length ?? 0), 0)
  );
}
