/** What the journal writes down, and how it is read again. */
import { z } from "zod";
import { decodeCbor } from "../../protocol/cbor.ts";
import { documentView, parseDocument, type Part } from "../../receipt/document.ts";
import type { ModelOffer } from "../../protocol/offer.ts";
import type { ChoiceEnd } from "../answers/answer-choice.ts";
import { emptyProgress, type Progress } from "../attempts/attempt.ts";

/** Raised when records of an earlier version would be misunderstood: those are then not gone on with. */
const journalVersion = 1;

/** A request, as far as it is needed to ask it again. */
export interface JournalHead {
  readonly endpoint: "chat" | "text";
  /** As the client sent it, in JSON. */
  readonly body: string;
  /** The one that was drawn when the client gave none. */
  readonly seed: number;
  readonly owner: string;
  readonly createdMs: number;
}

/** What came of a choice since the entry before. */
export interface JournalEntry {
  readonly choice: number;
  readonly tokenIds: readonly number[];
  readonly text: string;
  /** As a whole, up to here. */
  readonly state: Omit<
    Progress,
    "tokenIds" | "text" | "repeatedMs" | "logprobs" | "parts" | "textFrom" | "late" | "open"
  >;
  /** JSON of a receipts' document with the attempts that are over; null: as in the entry before. */
  readonly parts: string | null;
  /** The same of the one that runs, without what it delivered, and the characters before that; null: none does. */
  readonly open: { readonly part: string; readonly chars: number } | null;
  readonly end: ChoiceEnd | null;
}

/** A choice as it was written down last. */
export interface StoredChoice {
  readonly progress: Progress;
  readonly end: ChoiceEnd | null;
}

const count = z.number().int().min(0);
const amount = z.union([z.bigint(), z.number().int()]).transform(BigInt);
const offer = z.looseObject({
  modelId: z.string(),
  price: z.object({ inputPerMillionTokens: amount, outputPerMillionTokens: amount, perSecond: amount }),
}) as unknown as z.ZodType<ModelOffer>;
const slices = z.array(
  z.object({ providerId: z.string(), offer, outputTokens: count, durationMs: z.number() }),
);

const headSchema = z.object({
  version: z.literal(journalVersion),
  endpoint: z.enum(["chat", "text"]),
  body: z.string(),
  seed: count,
  owner: z.string(),
  createdMs: z.number(),
});

const entriesSchema = z.array(
  z.object({
    choice: count,
    tokenIds: z.array(count),
    text: z.string(),
    state: z.looseObject({
      idsComplete: z.boolean(),
      position: count,
      promptTokens: count,
      cachedTokens: count,
      slices,
    }),
    // Absent in records of earlier versions.
    parts: z.string().nullable().default(null),
    open: z.object({ part: z.string(), chars: count }).nullable().default(null),
    end: (z.looseObject({ slices }) as unknown as z.ZodType<ChoiceEnd>).nullable(),
  }),
) as unknown as z.ZodType<JournalEntry[]>;

/** Values of one record: token ids of all choices since the one before. */
const limits = { valuesMax: 2 ** 22 };

export function headRecord(head: JournalHead): object {
  return { version: journalVersion, ...head };
}

/** @throws SkeinError when it is not what this version writes */
export function readHead(bytes: Uint8Array): JournalHead {
  return decodeCbor(headSchema, bytes, "journal's head", limits);
}

/** Puts the entries of a choice together. @throws SkeinError when a record is not what this version writes */
export function readEntries(records: readonly Uint8Array[], choices: number): (StoredChoice | null)[] {
  const opened = new Map<number, JournalEntry["open"]>();
  const stored: ({ progress: Progress; end: ChoiceEnd | null } | null)[] = Array.from(
    { length: choices },
    () => null,
  );
  for (const bytes of records) {
    for (const entry of decodeCbor(entriesSchema, bytes, "journal's entry", limits)) {
      const known = (stored[entry.choice] ??= { progress: emptyProgress(), end: null });
      const { progress } = known;
      for (const id of entry.tokenIds) progress.tokenIds.push(id);
      Object.assign(progress, entry.state, { text: progress.text + entry.text });
      if (entry.parts !== null) progress.parts = partsIn(entry.parts);
      opened.set(entry.choice, entry.open);
      known.end = entry.end === null ? null : { ...entry.end, text: progress.text };
    }
  }
  for (const [choice, open] of opened) {
    const { progress } = stored[choice]!;
    if (open !== null)
      progress.parts.push(...partsIn(open.part).map((part) => delivered(part, open.chars, progress)));
  }
  return stored;
}

/** @param parts of one choice */
export function partsRecord(parts: readonly Part[]): string {
  return JSON.stringify(documentView({ requestId: "", choices: [{ index: 0, prompt: null, parts }] }));
}

function partsIn(record: string): Part[] {
  return [...parseDocument(JSON.parse(record)).choices[0]!.parts];
}

/** What came behind the attempt's beginning is its own. */
function delivered(part: Part, chars: number, { idsComplete, tokenIds, text }: Progress): Part {
  const own = idsComplete ? tokenIds.slice(part.asked.emitted.tokens) : null;
  return { ...part, tokenIds: own, text: text.slice(chars) };
}
