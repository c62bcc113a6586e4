/** Chat completions that were asked with `store`: listed, read, noted on, deleted. */
import type { Context } from "hono";
import { z } from "zod";
import { SkeinError } from "../../util/errors.ts";
import { type App, type AskerOf, wrongMethod } from "../http/app.ts";
import { checkShape } from "../requests/check-shape.ts";
import { chatCompletion, type Frame } from "../answers/format.ts";
import type { ChoiceEnd } from "../answers/answer-choice.ts";
import type { KeptRecords } from "../kept/kept-records.ts";
import { metadataOf } from "../requests/metadata.ts";
import { parseBody } from "../requests/parse-body.ts";
import { pageOf, parseListQuery } from "../kept/records.ts";

/** As OpenAI has it. */
const listed = { limitDefault: 20, limitMax: 100 };

type Metadata = Readonly<Record<string, string>> | null;

interface StoredCompletion {
  readonly completion: { readonly id: string; readonly model: string };
  readonly metadata: Metadata;
  /** As they were asked. */
  readonly messages: readonly object[];
  readonly createdMs: number;
}

const wishSchema = z.looseObject({ store: z.boolean().nullish() });

/** What is to be kept of a request. */
export interface StoreWish {
  readonly metadata: Metadata;
}

/** Null: nothing. @throws SkeinError `invalid_request` */
export function storeWish(body: Record<string, unknown>): StoreWish | null {
  const { store } = checkShape(wishSchema, body);
  const metadata = metadataOf(body["metadata"]);
  return store === true ? { metadata } : null;
}

/** Keeps an answer before its end is told, so that whoever has its id finds it. */
export async function keepCompletion(
  kept: KeptRecords,
  owner: string,
  frame: Frame,
  ends: readonly ChoiceEnd[],
  { metadata, messages }: Pick<StoredCompletion, "metadata" | "messages">,
): Promise<boolean> {
  const completion = chatCompletion(frame, ends);
  const { createdMs } = frame;
  const record: StoredCompletion = { completion, metadata, messages, createdMs };
  return kept.put(owner, completion.id, createdMs, record);
}

export function mountStoredChat(app: App, kept: KeptRecords, askerOf: AskerOf): void {
  const find = async (c: Context): Promise<StoredCompletion> =>
    (await kept.get(askerOf(c).owner, c.req.param("id")!)) as StoredCompletion;
  const path = "/v1/chat/completions";

  app.get(path, async (c) => {
    const query = c.req.query();
    const wanted = metadataFilter(query);
    const view = (record: unknown) => {
      const stored = record as StoredCompletion;
      const fits =
        (query["model"] === undefined || stored.completion.model === query["model"]) &&
        wanted.every(([key, value]) => stored.metadata?.[key] === value);
      return fits ? storedView(stored) : null;
    };
    return c.json(await kept.list(askerOf(c).owner, parseListQuery(query, listed, "asc"), view));
  });
  app.get(`${path}/:id`, async (c) => c.json(storedView(await find(c))));
  app.post(`${path}/:id`, async (c) => {
    const stored = await find(c);
    const body = await parseBody(c.req.raw);
    if (!("metadata" in body)) {
      throw new SkeinError("invalid_request", "'metadata' is missing: nothing else can be changed.", {
        param: "metadata",
      });
    }
    const changed = { ...stored, metadata: metadataOf(body["metadata"]) };
    await kept.put(askerOf(c).owner, stored.completion.id, stored.createdMs, changed);
    return c.json(storedView(changed));
  });
  app.delete(`${path}/:id`, async (c) => {
    const { completion } = await find(c);
    await kept.delete(askerOf(c).owner, completion.id);
    return c.json({ id: completion.id, object: "chat.completion.deleted", deleted: true });
  });
  app.get(`${path}/:id/messages`, async (c) => {
    const { completion, messages } = await find(c);
    const { limit, order, after } = parseListQuery(c.req.query(), listed, "asc");
    const all = messages.map((message, i) => ({ id: `${completion.id}-${i}`, ...message }));
    if (order === "desc") all.reverse();
    const from = after === null ? 0 : all.findIndex(({ id }) => id === after) + 1;
    if (after !== null && from === 0) {
      throw new SkeinError("invalid_request", "'after' must be the id of a message.", { param: "after" });
    }
    const shown = all.slice(from, from + limit);
    return c.json(pageOf(shown, from + limit < all.length));
  });
  app.all(path, (c) => wrongMethod(c, "GET, POST"));
  app.all(`${path}/:id`, (c) => wrongMethod(c, "GET, POST, DELETE"));
  app.all(`${path}/:id/messages`, (c) => wrongMethod(c, "GET"));
}

function storedView({ completion, metadata }: StoredCompletion) {
  return { ...completion, metadata: metadata ?? {} };
}

/** `metadata[key]=value` */
function metadataFilter(query: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(query).flatMap(([name, value]): [string, string][] => {
    const key = /^metadata\[(.+)\]$/.exec(name)?.[1];
    return key === undefined ? [] : [[key, value]];
  });
}
