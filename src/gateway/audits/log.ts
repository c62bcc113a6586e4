/** Verdicts, with what proves a failure, in the gateway's store. */
import type { AuditTask, VerdictLog } from "../../audit/ports.ts";
import { openOpening, openVerdict, type Opening, type Verdict } from "../../audit/verdict.ts";
import type { AuditView } from "../../protocol/gateway-api.ts";
import type { Located } from "./locate-fault.ts";
import type { SignedEnvelope } from "../../protocol/offer.ts";
import { documentView, type ReceiptedChoice } from "../../receipt/document.ts";
import { type Store, valueBytesMax } from "../../store/port.ts";
import { fromHex, toHex, utf8 } from "../../util/bytes.ts";
import type { Clock } from "../../util/clock.ts";

/** What a verdict alone does not say. */
export interface AuditFacts {
  /** Who asked the question; null: the gateway itself. */
  readonly owner: string | null;
  readonly answer: ReceiptedChoice;
  /** Other answers to the same question: evidence, too. */
  readonly besides?: readonly ReceiptedChoice[];
  readonly requestId: string;
  readonly chosenBy: AuditView["chosen_by"];
  /** With which it was chosen. */
  readonly probability: number;
}

/** How the check went, for people. */
export interface AuditWork {
  /** In words; null: nothing is wrong. */
  readonly problem: string | null;
  readonly positions: number;
  readonly tookMs: number;
  /** What the provider gave out about a wrong answer of its own; absent: nothing. */
  readonly trace?: Located["trace"];
}

interface Kept extends AuditView {
  readonly owner: string | null;
  /** Key of its place in time. */
  readonly at: string;
}

const onPrefix = "audit/on/";
const atPrefix = "audit/at/";
/** Digits of a time in keys, so that they are in order. */
const timeDigits = 15;

export class AuditLog implements VerdictLog {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #retentionMs: number;
  /** Of receipts whose verdict comes next. */
  readonly #next = new Map<string, { facts: AuditFacts; work: AuditWork }>();

  constructor(store: Store, clock: Clock, retentionMs: number) {
    this.#store = store;
    this.#clock = clock;
    this.#retentionMs = retentionMs;
  }

  /** Beside the verdict that follows. */
  explain({ receiptHash }: AuditTask, facts: AuditFacts, work: AuditWork): void {
    this.#next.set(toHex(receiptHash), { facts, work });
  }

  async append(verdict: Verdict, envelope: SignedEnvelope): Promise<void> {
    const receipt = toHex(verdict.receiptHash);
    const explained = this.#next.get(receipt);
    this.#next.delete(receipt);
    const at = `${atPrefix}${String(verdict.issuedAtMs).padStart(timeDigits, "0")}-${receipt}`;
    const kept = { ...keptOf(verdict, envelope, explained ?? null), at };
    // Asked for first, then chosen: the newest verdict counts.
    const before = await this.#get(receipt);
    // That nothing can be said takes nothing back.
    if (before !== null && before.result !== "unable" && kept.result === "unable") return;
    await this.#write(
      [
        [onPrefix + receipt, kept],
        [at, { receipt }],
      ],
      before === null || before.at === at ? [] : [before.at],
    );
  }

  async appendOpening(opening: Opening, envelope: SignedEnvelope): Promise<void> {
    const kept = await this.#get(toHex(opening.receiptHash));
    if (kept !== null) await this.#write([[onPrefix + kept.receipt, { ...kept, opening: hexOf(envelope) }]]);
  }

  async about(providerId: string, sinceMs: number, limit: number): Promise<readonly Verdict[]> {
    const found = (await this.latest(limit, providerId)).toReversed();
    const verdicts = await Promise.all(found.map(({ receipt }) => this.on(fromHex(receipt))));
    return verdicts.flat().flatMap(({ verdict }) => (verdict.issuedAtMs >= sinceMs ? verdict : []));
  }

  async on(
    receiptHash: Uint8Array,
  ): Promise<readonly { readonly verdict: Verdict; readonly opening: Opening | null }[]> {
    const kept = await this.#get(toHex(receiptHash));
    if (kept === null) return [];
    const opening = kept.opening === null ? null : await openOpening(envelopeOf(kept.opening!));
    return [{ verdict: await openVerdict(envelopeOf(kept.verdict!)), opening }];
  }

  /** The newest first. @param providerId null: of all */
  async latest(limit: number, providerId: string | null): Promise<AuditView[]> {
    const found: AuditView[] = [];
    let after: string | undefined;
    for (;;) {
      const scan = { prefix: atPrefix, limit: pageSize, reverse: true };
      const page = await this.#store.scan(after === undefined ? scan : { ...scan, after });
      for (const { value } of page) {
        const kept = await this.#get((parsed(value) as { receipt: string }).receipt);
        if (kept !== null && (providerId === null || kept.provider === providerId)) found.push(listed(kept));
        if (found.length === limit) return found;
      }
      if (page.length < pageSize) return found;
      after = page.at(-1)!.key;
    }
  }

  /**
   * By the hash of the receipt, or its beginning; null: there is none, or there are several.
   * @param owner who wants to see it: prompts are shown to nobody but whom asked the question
   */
  async find(hash: string, owner: string): Promise<AuditView | null> {
    const [record, other] = await this.#store.scan({ prefix: onPrefix + hash, limit: 2 });
    if (record === undefined || (other !== undefined && hash.length < 64)) return null;
    const kept = parsed(record.value) as Kept;
    const isTheirs = kept.owner === null || kept.owner === owner;
    const { verdict, opening, evidence, trace = null } = kept;
    return {
      ...listed(kept),
      verdict: verdict!,
      opening: opening!,
      evidence: isTheirs ? evidence! : null,
      trace,
    };
  }

  async #get(receipt: string): Promise<Kept | null> {
    const value = await this.#store.get(onPrefix + receipt);
    return value === null ? null : (parsed(value) as Kept);
  }

  async #write(records: readonly (readonly [string, object])[], gone: readonly string[] = []): Promise<void> {
    const expiresAtMs = this.#clock.nowMs() + this.#retentionMs;
    await this.#store.commit({
      changes: [
        ...gone.map((key) => ({ type: "delete", key }) as const),
        ...records.map(
          ([key, value]) => ({ type: "put", key, value: utf8(JSON.stringify(value)), expiresAtMs }) as const,
        ),
      ],
    });
  }
}

const pageSize = 200;

/** Without what proves it. */
function listed(kept: Kept): AuditView {
  const hidden = ["owner", "at", "verdict", "opening", "evidence", "trace"];
  return Object.fromEntries(
    Object.entries(kept).filter(([key]) => !hidden.includes(key)),
  ) as unknown as AuditView;
}

function keptOf(
  verdict: Verdict,
  envelope: SignedEnvelope,
  explained: { facts: AuditFacts; work: AuditWork } | null,
): Omit<Kept, "at"> {
  const { outcome } = verdict;
  const { facts, work } = explained ?? { facts: null, work: null };
  return {
    object: "audit",
    receipt: toHex(verdict.receiptHash),
    provider: verdict.providerId,
    model_id: verdict.modelId,
    tier: verdict.tier,
    result: outcome.result,
    finding: outcome.result === "fail" ? { ...outcome.finding } : null,
    unable: outcome.result === "unable" ? outcome.why : null,
    problem: work?.problem ?? null,
    chosen_by: facts?.chosenBy ?? "request",
    probability: facts?.probability ?? 1,
    round: verdict.round,
    request_id: facts?.requestId ?? "",
    positions: work?.positions ?? 0,
    took_ms: Math.round(work?.tookMs ?? 0),
    issued_at: Math.floor(verdict.issuedAtMs / 1000),
    auditor: verdict.auditorId,
    verdict: hexOf(envelope),
    opening: null,
    evidence: outcome.result === "fail" && facts !== null ? evidenceOf(facts) : null,
    trace: traceView(work?.trace ?? null),
    owner: facts?.owner ?? null,
  };
}

/** The whole answer, so that anybody can compute it again. */
function evidenceOf({ requestId, answer, besides = [] }: AuditFacts): object {
  const answers = [answer, ...besides];
  const viewOf = (choices: readonly ReceiptedChoice[]): object => documentView({ requestId, choices });
  const view = viewOf(answers);
  const isTooLong = JSON.stringify(view).length > valueBytesMax / 2;
  return isTooLong ? viewOf(answers.map((each) => ({ ...each, prompt: null }))) : view;
}

/** Row hashes of long answers are left out: whoever computes the answer again finds the place without them. */
function traceView(trace: Located["trace"] | null): NonNullable<AuditView["trace"]> | null {
  if (trace === null) return null;
  const { position, rows, leaves } = trace;
  const isTooLong = 2 * rows.length > valueBytesMax / 4;
  return {
    position,
    rows: isTooLong ? null : toHex(rows),
    leaves: leaves === null ? null : toHex(leaves),
  };
}

function hexOf({ payload, signature }: SignedEnvelope) {
  return { payload: toHex(payload), signature: toHex(signature) };
}

function envelopeOf({ payload, signature }: { payload: string; signature: string }): SignedEnvelope {
  return { payload: fromHex(payload), signature: fromHex(signature) };
}

function parsed(value: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(value));
}
