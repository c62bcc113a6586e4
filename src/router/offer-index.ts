/**
 * All live offers, by model, kept in order of how good they are for a typical request, so that a decision looks
 * at a few of them and not at all. Order means buckets of scores that differ by 5 %: moving an offer costs the
 * same among ten and among fifty thousand.
 */
import type { Random } from "../util/random.ts";

/** `cooling` ones are a last resort; `away` ones are offered but cannot serve now. */
export type Standing = "available" | "cooling" | "away";

/** Factor between the scores of two neighbouring buckets. */
const bucketFactor = 1.05;
/** The last two: cooling ones, and those that are away. 1.05^298 ms are half an hour. */
const bucketsMax = 300;
const coolingBucket: number = bucketsMax;
const awayBucket: number = bucketsMax + 1;
/** Offers that a decision compares. The best of 32 near-best ones is as good as the best of all. */
export const shortlistMax = 32;
/** Offers that are looked at while at least one was found; hints may exclude most. */
const visitsMax = 256;

interface Slot<T> {
  item: T;
  readonly name: string;
  readonly modelId: string;
  bucket: number;
  place: number;
}

interface Pool<T> {
  readonly buckets: (Slot<T>[] | undefined)[];
  /** Offers under each name. */
  readonly names: Map<string, number>;
  size: number;
  available: number;
  away: number;
}

export class OfferIndex<T> {
  readonly #slots = new Map<string, Slot<T>>();
  readonly #pools = new Map<string, Pool<T>>();
  /** Identities of each name. */
  readonly #names = new Map<string, Set<string>>();

  get size(): number {
    return this.#slots.size;
  }

  get(key: string): T | undefined {
    return this.#slots.get(key)?.item;
  }

  /** Adds an offer, or puts it in its new place. */
  set(
    key: string,
    item: T,
    offer: { readonly name: string; readonly modelId: string },
    standing: Standing,
    scoreMs: number,
  ): void {
    const bucket = bucketOf(standing, scoreMs);
    const known = this.#slots.get(key);
    if (known !== undefined) {
      if (known.name === offer.name && known.modelId === offer.modelId) {
        known.item = item;
        if (known.bucket !== bucket) this.#move(known, bucket);
        return;
      }
      this.delete(key);
    }
    const slot: Slot<T> = { item, name: offer.name, modelId: offer.modelId, bucket, place: 0 };
    this.#slots.set(key, slot);
    this.#insert(this.#poolFor(slot), slot);
  }

  delete(key: string): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) return;
    this.#slots.delete(key);
    const { name, modelId } = slot;
    const pool = this.#pools.get(modelId)!;
    this.#take(pool, slot);
    pool.size -= 1;
    const left = pool.names.get(name)! - 1;
    if (left > 0) {
      pool.names.set(name, left);
      return;
    }
    pool.names.delete(name);
    const identities = this.#names.get(name)!;
    identities.delete(modelId);
    if (identities.size === 0) this.#names.delete(name);
    if (pool.size === 0) this.#pools.delete(modelId);
  }

  /** Identities that a name stands for: an identity, an alias, or `alias@beginning of the hash`. */
  identitiesOf(name: string): readonly string[] {
    if (this.#pools.has(name)) return [name];
    const known = this.#names.get(name);
    if (known !== undefined) return [...known];
    const at = name.lastIndexOf("@");
    const prefix = name.slice(at + 1);
    if (at < 0 || prefix === "") return [];
    return [...(this.#names.get(name.slice(0, at)) ?? [])].filter((modelId) =>
      modelId.slice(modelId.indexOf(":") + 1).startsWith(prefix),
    );
  }

  /** The identity a name stands for now: the one with the most available providers, ties to the lowest id. */
  identityOf(name: string): string | null {
    let best: string | null = null;
    let most = -1;
    for (const modelId of this.identitiesOf(name)) {
      const { available } = this.#pools.get(modelId)!;
      if (available < most || (available === most && modelId > best!)) continue;
      best = modelId;
      most = available;
    }
    return best;
  }

  /** Offers that can serve now, cooling ones included. */
  servingCount(modelIds: readonly string[]): number {
    return modelIds.reduce((sum, modelId) => {
      const pool = this.#pools.get(modelId);
      return pool === undefined ? sum : sum + pool.size - pool.away;
    }, 0);
  }

  /** Some of the best that `accept` takes: best buckets first, chance within the last one. */
  shortlist(modelIds: readonly string[], random: Random, accept: (item: T) => boolean): T[] {
    const pools = modelIds.flatMap((modelId) => this.#pools.get(modelId) ?? []);
    const found: T[] = [];
    const stranger = this.#anyOf(pools, random);
    if (stranger !== undefined && accept(stranger)) found.push(stranger);
    let visits = 0;
    for (let bucket = 0; bucket <= coolingBucket; bucket++) {
      for (const { buckets } of pools) {
        const slots = buckets[bucket];
        if (slots === undefined || slots.length === 0) continue;
        const start = slots.length > shortlistMax ? Math.floor(random.next() * slots.length) : 0;
        for (let i = 0; i < slots.length; i++) {
          if (found.length >= shortlistMax || (visits >= visitsMax && found.length > 0)) return found;
          visits += 1;
          const { item } = slots[(start + i) % slots.length]!;
          if (item !== stranger && accept(item)) found.push(item);
        }
      }
    }
    return found;
  }

  /** One from a random bucket: the router tries those that are not among the best now and then. */
  #anyOf(pools: readonly Pool<T>[], random: Random): T | undefined {
    const buckets = pools[Math.floor(random.next() * pools.length)]?.buckets ?? [];
    const first = Math.floor(random.next() * coolingBucket);
    for (let i = 0; i < coolingBucket; i++) {
      const slots = buckets[(first + i) % coolingBucket];
      if (slots !== undefined && slots.length > 0) {
        return slots[Math.floor(random.next() * slots.length)]!.item;
      }
    }
    return undefined;
  }

  #poolFor({ name, modelId }: Slot<T>): Pool<T> {
    let pool = this.#pools.get(modelId);
    if (pool === undefined) {
      pool = { buckets: [], names: new Map(), size: 0, available: 0, away: 0 };
      this.#pools.set(modelId, pool);
    }
    pool.size += 1;
    pool.names.set(name, (pool.names.get(name) ?? 0) + 1);
    let identities = this.#names.get(name);
    if (identities === undefined) this.#names.set(name, (identities = new Set()));
    identities.add(modelId);
    return pool;
  }

  #move(slot: Slot<T>, bucket: number): void {
    const pool = this.#pools.get(slot.modelId)!;
    this.#take(pool, slot);
    slot.bucket = bucket;
    this.#insert(pool, slot);
  }

  #insert(pool: Pool<T>, slot: Slot<T>): void {
    const slots = (pool.buckets[slot.bucket] ??= []);
    slot.place = slots.length;
    slots.push(slot);
    if (slot.bucket < coolingBucket) pool.available += 1;
    if (slot.bucket === awayBucket) pool.away += 1;
  }

  #take(pool: Pool<T>, { bucket, place }: Slot<T>): void {
    const slots = pool.buckets[bucket]!;
    const last = slots.pop()!;
    if (place < slots.length) {
      slots[place] = last;
      last.place = place;
    }
    if (bucket < coolingBucket) pool.available -= 1;
    if (bucket === awayBucket) pool.away -= 1;
  }
}

function bucketOf(standing: Standing, scoreMs: number): number {
  if (standing !== "available") return standing === "cooling" ? coolingBucket : awayBucket;
  const steps = Math.floor(Math.log(Math.max(1, scoreMs)) / Math.log(bucketFactor));
  return Math.min(bucketsMax - 1, steps);
}
