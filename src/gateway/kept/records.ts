/** JSON in the store, under keys that say whose it is; ids that sort by age; pages of lists. */
import type { Change, Store } from "../../store/port.ts";
import { toHex, utf8 } from "../../util/bytes.ts";
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Random } from "../../util/random.ts";

/** Records that one look into the store returns. */
const scanRecords = 1_000;
/** Milliseconds since 1970 up to the year 10889, then 48 random bits. */
const timeHexLength = 12;
const randomBytes = 6;

const decoder = new TextDecoder();

/** An id such as `file-…`: later ones sort behind earlier ones. */
export function newId({ clock, random }: { clock: Clock; random: Random }, prefix: string): string {
  const time = clock.nowMs().toString(16).padStart(timeHexLength, "0");
  return `${prefix}${time}${toHex(random.bytes(randomBytes))}`;
}

/** When an id without a prefix was made, in milliseconds since 1970. */
export function timeOf(id: string): number {
  return Number.parseInt(id.slice(0, timeHexLength), 16);
}

/** Whether a text may be an id made here, and so be a part of a key. */
export function isId(prefix: string, text: string): boolean {
  const rest = text.slice(prefix.length);
  return (
    text.startsWith(prefix) && rest.length === timeHexLength + 2 * randomBytes && /^[0-9a-f]+$/.test(rest)
  );
}

/** A key's part for an owner; without API keys all are one. */
export function ownerPart(owner: string): string {
  return owner === "" ? "open" : owner;
}

export function putJson(key: string, value: unknown, expiresAtMs: number | null = null): Change {
  return { type: "put", key, value: utf8(JSON.stringify(value)), expiresAtMs };
}

export function parseRecord(value: Uint8Array): unknown {
  return JSON.parse(decoder.decode(value));
}

export async function getJson(store: Store, key: string): Promise<unknown> {
  const value = await store.get(key);
  return value === null ? null : parseRecord(value);
}

/** All records whose key begins with a prefix, in order. */
export async function* eachJson(
  store: Store,
  scan: { prefix: string; after?: string; reverse?: boolean },
): AsyncGenerator<{ key: string; value: unknown }, void> {
  let { after } = scan;
  for (;;) {
    const found = await store.scan({
      ...scan,
      ...(after === undefined ? {} : { after }),
      limit: scanRecords,
    });
    if (found.length === 0) return;
    for (const { key, value } of found) yield { key, value: parseRecord(value) };
    after = found.at(-1)!.key;
  }
}

export interface ListQuery {
  readonly limit: number;
  readonly order: "asc" | "desc";
  /** Only what comes behind this id; null: from the beginning. */
  readonly after: string | null;
}

/** @throws SkeinError `invalid_request` */
export function parseListQuery(
  query: Readonly<Record<string, string>>,
  { limitDefault, limitMax }: { limitDefault: number; limitMax: number },
  orderDefault: ListQuery["order"] = "desc",
): ListQuery {
  const { limit = String(limitDefault), order = orderDefault, after = null } = query;
  if (!/^\d{1,6}$/.test(limit) || Number(limit) < 1 || Number(limit) > limitMax) {
    throw new SkeinError("invalid_request", `'limit' must be an integer from 1 to ${limitMax}.`, {
      param: "limit",
    });
  }
  if (order !== "asc" && order !== "desc") {
    throw new SkeinError("invalid_request", "'order' must be asc or desc.", { param: "order" });
  }
  return { limit: Number(limit), order, after };
}

export interface Page<T> {
  readonly object: "list";
  readonly data: T[];
  readonly first_id: string | null;
  readonly last_id: string | null;
  readonly has_more: boolean;
}

/**
 * One page of the records whose key is `prefix` and an id.
 *
 * @param view what is shown of a record; null: nothing
 * @throws SkeinError `invalid_request` when `after` is no id
 */
export async function listPage<V extends { readonly id: string }>(
  store: Store,
  { prefix, idPrefix }: { prefix: string; idPrefix: string },
  { limit, order, after }: ListQuery,
  view: (record: unknown) => V | null,
): Promise<Page<V>> {
  if (after !== null && !isId(idPrefix, after)) {
    throw new SkeinError("invalid_request", `'after' must be an id like ${idPrefix}….`, { param: "after" });
  }
  const data: V[] = [];
  const behind = after === null ? {} : { after: prefix + after };
  for await (const { value } of eachJson(store, { prefix, ...behind, reverse: order === "desc" })) {
    const shown = view(value);
    if (shown !== null) data.push(shown);
    if (data.length > limit) break;
  }
  const shown = data.slice(0, limit);
  return pageOf(shown, data.length > limit);
}

export function pageOf<V extends { readonly id: string }>(data: V[], hasMore: boolean): Page<V> {
  return {
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: hasMore,
  };
}
