/** Answers that clients asked to keep: each belongs to one API key, is gone after a while, and can be deleted. */
import { type Change, type Store, valueBytesMax } from "../../store/port.ts";
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import {
  eachJson,
  getJson,
  isId,
  listPage,
  type ListQuery,
  ownerPart,
  type Page,
  putJson,
} from "./records.ts";

/** Of one kind and API key; beyond, the oldest goes. */
const recordsMax = 10_000;

export interface KeptKind {
  /** Part of the keys. */
  readonly name: "chat" | "response";
  readonly idPrefix: string;
  /** For people: "stored completion". */
  readonly what: string;
}

export class KeptRecords {
  readonly #deps: { store: Store; clock: Clock };
  readonly #kind: KeptKind;
  readonly #retentionMs: number;
  /** How many an owner has at most, where that was counted. */
  readonly #counts = new Map<string, number>();

  constructor(deps: { store: Store; clock: Clock }, kind: KeptKind, retentionMs: number) {
    this.#deps = deps;
    this.#kind = kind;
    this.#retentionMs = retentionMs;
  }

  /** Adds one, or writes one anew. False: it is too large to be kept. */
  async put(
    owner: string,
    id: string,
    createdMs: number,
    value: object,
    also: readonly Change[] = [],
  ): Promise<boolean> {
    const expiresMs = createdMs + this.#retentionMs;
    const change = putJson(this.#key(owner, id), value, expiresMs);
    if (change.type === "put" && change.value.length > valueBytesMax) return false;
    await this.#makeRoom(owner);
    await this.#deps.store.commit({
      changes: [change, putJson(this.#indexKey(owner, id), null, expiresMs), ...also],
    });
    return true;
  }

  /** @throws SkeinError `not_found`; also for somebody else's, which is nobody's business */
  async get(owner: string, id: string, param: string | null = null): Promise<unknown> {
    const { idPrefix, what } = this.#kind;
    const value = isId(idPrefix, id) ? await getJson(this.#deps.store, this.#key(owner, id)) : null;
    if (value !== null) return value;
    throw new SkeinError("not_found", `There is no ${what} '${id.slice(0, 100)}'.`, {
      hint: "It may have expired, belong to another API key, or never have been kept ('store').",
      ...(param === null ? {} : { param }),
    });
  }

  async delete(owner: string, id: string): Promise<void> {
    await this.#deps.store.commit({
      changes: [
        { type: "delete", key: this.#key(owner, id) },
        { type: "delete", key: this.#indexKey(owner, id) },
      ],
    });
  }

  list<V extends { readonly id: string }>(
    owner: string,
    query: ListQuery,
    view: (record: unknown) => V | null,
  ): Promise<Page<V>> {
    const where = { prefix: this.#key(owner, ""), idPrefix: this.#kind.idPrefix };
    return listPage(this.#deps.store, where, query, view);
  }

  async #makeRoom(owner: string): Promise<void> {
    let count = this.#counts.get(owner) ?? recordsMax;
    if (count >= recordsMax) {
      // Those that expired meanwhile do not count.
      count = 0;
      let oldest: string | null = null;
      for await (const { key } of eachJson(this.#deps.store, { prefix: this.#indexKey(owner, "") })) {
        oldest ??= key.slice(key.lastIndexOf("/") + 1);
        count += 1;
      }
      if (count >= recordsMax && oldest !== null) await this.delete(owner, oldest);
    }
    this.#counts.set(owner, count + 1);
  }

  #key(owner: string, id: string): string {
    return `kept/${this.#kind.name}/${ownerPart(owner)}/${id}`;
  }

  #indexKey(owner: string, id: string): string {
    return `kept-index/${this.#kind.name}/${ownerPart(owner)}/${id}`;
  }
}
