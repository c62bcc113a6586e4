/**
 * Verdicts: what an auditor found, signed. Each holds a salted commitment to the auditor's own work, so that a verdict
 * copied from another auditor cannot be opened afterwards.
 */
import { type ZodType, z } from "zod";
import type { SignedEnvelope } from "../protocol/offer.ts";
import { openRecord, type Signer, signStatement } from "../protocol/signing.ts";
import { equalBytes, sha256, utf8 } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";
import { hashBytes } from "./selection.ts";

/** What was computed otherwise than claimed. Statistics (the float tier) only ever find `improbable`. */
export type FindingKind =
  /** A token that the sampler does not choose from the right logits. */
  | "token"
  /** A layer's residual, key or value. */
  | "layer"
  | "logits"
  /** The roots differ, but no row could be compared: the provider withheld them. */
  | "withheld"
  /** Prompt, counts, fee or end do not follow from the request. */
  | "receipt"
  /** Most of several independent providers gave another answer: no proof, for a majority may be wrong. */
  | "outvoted"
  | "improbable";

export interface Finding {
  readonly kind: FindingKind;
  /** Index in prompt and answer together (exact tier), or in the answer alone (float tier, whose prompts are texts). */
  readonly position: number;
  /** 0 is the embedding; null where no single layer is meant. */
  readonly layer: number | null;
}

/** Why an auditor could not say. Held against nobody but an auditor that says it too often. */
export type Inability =
  | "model not here"
  | "engine version"
  | "prompt not shown"
  /** What it goes on from is wrong already: another provider's fault. */
  | "earlier attempt"
  /** It passed what was known to be wrong. */
  | "checker failed"
  /** More were chosen than could be checked. */
  | "queue full"
  | "timeout"
  | "busy"
  | "cancelled";

export type Outcome =
  | { readonly result: "pass" }
  | { readonly result: "fail"; readonly finding: Finding }
  | { readonly result: "unable"; readonly why: Inability };

export interface Verdict {
  readonly auditorId: string;
  readonly providerId: string;
  readonly receiptHash: Uint8Array;
  readonly modelId: string;
  readonly tier: "exact" | "float";
  /** Round of the beacon that chose the receipt. */
  readonly round: number;
  readonly outcome: Outcome;
  /** `commitWork` over the auditor's own result; see `Opening`. */
  readonly commitment: Uint8Array;
  readonly issuedAtMs: number;
}

/** Shown after all verdicts about a receipt are there. */
export interface Opening {
  readonly auditorId: string;
  readonly receiptHash: Uint8Array;
  readonly salt: Uint8Array;
  /** `workRoot` of the auditor's own rows, or in the float tier of its own margins. */
  readonly work: Uint8Array;
}

/** Fields of fixed length, ids and a few numbers; with room for long model ids. */
export const verdictBytesMax = 2_048;
export const saltBytes = 32;
const verdictDomain = "skein-verdict-v1";
const openingDomain = "skein-verdict-opening-v1";

const bytesOf = (length: number) =>
  z
    .instanceof(Uint8Array)
    .refine((value) => value.length === length, "wrong length")
    // A decoder may give a view into the message.
    .transform((value) => new Uint8Array(value));
const hash = bytesOf(hashBytes);
const partyId = z.string().min(1).max(64);
const whole = (max: number) => z.number().int().min(0).max(max);
const timeMsMax = 2 ** 52;

const outcomeSchema: ZodType<Outcome> = z.discriminatedUnion("result", [
  z.strictObject({ result: z.literal("pass") }),
  z.strictObject({
    result: z.literal("fail"),
    finding: z.strictObject({
      kind: z.enum(["token", "layer", "logits", "withheld", "receipt", "outvoted", "improbable"]),
      position: whole(2 ** 31),
      layer: whole(10_000).nullable(),
    }),
  }),
  z.strictObject({
    result: z.literal("unable"),
    why: z.enum([
      "model not here",
      "engine version",
      "prompt not shown",
      "earlier attempt",
      "checker failed",
      "queue full",
      "timeout",
      "busy",
      "cancelled",
    ]),
  }),
]);

const verdictSchema: ZodType<Verdict> = z
  .strictObject({
    auditorId: partyId,
    providerId: partyId,
    receiptHash: hash,
    modelId: z.string().min(1).max(200),
    tier: z.enum(["exact", "float"]),
    round: whole(timeMsMax),
    outcome: outcomeSchema,
    commitment: hash,
    issuedAtMs: whole(timeMsMax),
  })
  // Statistics take no money, and equality is not improbable but proved.
  .refine(
    ({ tier, outcome }) =>
      outcome.result !== "fail" || tier === "float" || outcome.finding.kind !== "improbable",
    "an exact verdict is not a matter of probability",
  );

const openingSchema: ZodType<Opening> = z.strictObject({
  auditorId: partyId,
  receiptHash: hash,
  salt: bytesOf(saltBytes),
  work: hash,
});

/** The content must be what `openVerdict` takes: signing refuses what nobody would read. */
export async function signVerdict(signer: Signer, content: Verdict): Promise<SignedEnvelope> {
  return signStatement(signer, verdictDomain, verdictSchema.parse(content));
}

/** @throws SkeinError `protocol_violation`, `invalid_signature` */
export async function openVerdict(envelope: SignedEnvelope): Promise<Verdict> {
  checkLength(envelope);
  return openRecord(verdictDomain, verdictSchema, envelope, ({ auditorId }) => auditorId);
}

export function signOpening(signer: Signer, content: Opening): Promise<SignedEnvelope> {
  return signStatement(signer, openingDomain, openingSchema.parse(content));
}

/** @throws SkeinError `protocol_violation`, `invalid_signature` */
export async function openOpening(envelope: SignedEnvelope): Promise<Opening> {
  checkLength(envelope);
  return openRecord(openingDomain, openingSchema, envelope, ({ auditorId }) => auditorId);
}

function checkLength({ payload }: SignedEnvelope): void {
  if (payload.length <= verdictBytesMax) return;
  throw new SkeinError(
    "protocol_violation",
    `A verdict has ${payload.length} bytes; ${verdictBytesMax} are allowed.`,
  );
}

/** Bound to the auditor and the receipt: a commitment that was copied cannot be opened under another name. */
export function commitWork(
  auditorId: string,
  receiptHash: Uint8Array,
  { salt, work }: Pick<Opening, "salt" | "work">,
): Promise<Uint8Array> {
  return sha256(utf8(`skein-audit-work-v1\0${auditorId}\0`), receiptHash, salt, work);
}

/**
 * A digest of everything that the auditor computed, bound to its name. The receipt shows only a root over the rows, so
 * nobody can make this without the rows themselves: agreeing with a receipt costs the work of checking it.
 *
 * @param rows hashes of all rows (exact tier), or the margins' bytes (float tier)
 */
export async function workRoot(auditorId: string, rows: readonly Uint8Array[]): Promise<Uint8Array> {
  return sha256(utf8(`skein-audit-rows-v1\0${auditorId}\0${rows.length}\0`), ...rows);
}

/** What an opening says about the verdict that it belongs to. */
export type OpeningCheck = "proved" | "other verdict" | "wrong opening" | "other work";

/**
 * Whether an auditor did the work of its verdict.
 *
 * @param rows those of an honest replay, where the checker has them; without them only the commitment is checked
 */
export async function checkOpening(
  verdict: Verdict,
  given: Opening,
  rows: readonly Uint8Array[] | null,
): Promise<OpeningCheck> {
  if (given.auditorId !== verdict.auditorId || !equalBytes(given.receiptHash, verdict.receiptHash))
    return "other verdict";
  const commitment = await commitWork(given.auditorId, given.receiptHash, given);
  if (!equalBytes(commitment, verdict.commitment)) return "wrong opening";
  if (rows !== null && !equalBytes(await workRoot(given.auditorId, rows), given.work)) return "other work";
  return "proved";
}
