/**
 * One choice, answered by several independent providers. Each is asked by itself, and signs its answer before any of the others'
 * leaves this process: text is told once all have delivered it, receipts are shown when all are there.
 */
import type { Part } from "../../receipt/document.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { Sink } from "../../util/sink.ts";
import type { Choice, ChoiceEnd } from "../answers/answer-choice.ts";
import type { Piece } from "../answers/logprobs.ts";
import type { ChoiceDeps } from "../attempts/attempt.ts";
import { receiptName } from "../attempts/receipts.ts";
import type { Together } from "../search/search.ts";
import { AgreedText } from "./agreed-text.ts";
import { Replicas } from "./apart.ts";
import type { Answered } from "./compare.ts";
import { type Enough, enoughProviders } from "./enough.ts";
import { judge, type Judgement, type Question, receiptedChoice } from "./judge.ts";
import type { ReplicaEnd } from "./replication.ts";

/** How one choice is answered by one provider after the other; see `answerChoice`. */
export type Answer = (
  together: Together,
  choice: Choice,
  signal: AbortSignal,
  tell: Sink<Piece>,
) => Promise<ChoiceEnd>;

/** One more provider is asked where the others cannot be told apart. */
const tiebreakersMax = 1;

interface Ended extends Answered {
  readonly end: ChoiceEnd;
}

/**
 * Tells text that all replicas have delivered, and resolves with the answer that enough of them gave.
 *
 * @throws SkeinError `no_provider` when there are too few providers, `provider_failed` when they do not agree and nobody can tell who is right
 */
export async function answerReplicated(
  deps: ChoiceDeps,
  { replicas, answer }: { readonly replicas: number; readonly answer: Answer },
  together: Together,
  choice: Choice,
  signal: AbortSignal,
  tell: Sink<Piece>,
): Promise<ChoiceEnd> {
  // 1. Enough providers of one identity, each asked by itself.
  const enough = enoughProviders(deps, together, replicas);
  const { requestId, prompt } = choice.request;
  const agreedMin = Math.floor(replicas / 2) + 1;
  const question = { owner: together.owner, requestId, index: choice.index, prompt, agreedMin };
  const run = new ReplicaRun({ together, choice, answer, enough, agreedMin });
  const onAbort = (): void => run.stop(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  let judgement: Judgement<Ended> | null = null;
  try {
    for (let i = 0; i < replicas; i++) run.start();
    // 2. What all have delivered, as it comes. Whoever restarts unseen must not be seen.
    for (let tiebreakers = 0; ; tiebreakers++) {
      while (!run.isOver) {
        if (!together.restartable) await tellAll(tell, run.agreed.take());
        await run.change();
      }
      if (signal.aborted) throw signal.reason;
      // 3. Who is right.
      judgement = await judge(deps.audits, question, run.ended, signal);
      const isLast = tiebreakers >= tiebreakersMax || !run.hasAnother || run.ended.length < agreedMin;
      if (judgement.right !== null || isLast) break;
      run.start();
    }
    if (judgement.right === null || judgement.agreed < agreedMin) throw run.failure(replicas);
    const told = judgement.right[0]!;
    const rest = together.restartable ? [] : run.agreed.takeAll(told.replica);
    if (rest === null) throw run.failure(replicas);
    await tellAll(tell, rest);
    return replicatedEnd(told, judgement, run, replicas);
  } finally {
    signal.removeEventListener("abort", onAbort);
    run.stop(new SkeinError("cancelled", "The request ended."));
    await run.settled();
    keepReceipts(deps, question, run, judgement?.outcomes);
  }
}

async function tellAll(tell: Sink<Piece>, pieces: readonly Piece[]): Promise<void> {
  for (const piece of pieces) await tell(piece);
}

interface RunFacts {
  readonly together: Together;
  readonly choice: Choice;
  readonly answer: Answer;
  readonly enough: Enough;
  readonly agreedMin: number;
}

/** Replicas on their way. */
class ReplicaRun {
  readonly agreed: AgreedText;
  /** Of all replicas, by number; empty: it has delivered nothing. */
  readonly parts: (readonly Part[])[] = [];
  readonly #facts: RunFacts;
  readonly #apart: Replicas;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>[] = [];
  readonly #ends: (ChoiceEnd | null)[] = [];
  #failure: SkeinError | null = null;
  #open = 0;
  #hasChanged = false;
  #wake = (): void => undefined;

  constructor(facts: RunFacts) {
    this.#facts = facts;
    this.#apart = new Replicas(facts.enough.facts);
    this.agreed = new AgreedText(facts.agreedMin);
  }

  get isOver(): boolean {
    return this.#open === 0;
  }

  /** Those that were answered and signed for. */
  get ended(): Ended[] {
    return this.#ends.flatMap((end, replica) => {
      const parts = this.parts[replica]!;
      return end === null || receiptName(parts) === null ? [] : [{ replica, parts, end }];
    });
  }

  /** Whether somebody is left to be asked. */
  get hasAnother(): boolean {
    return this.#facts.enough.providers.some(
      ({ entry }) => entry.session.status.ready && !this.#apart.isTaken(entry.session.providerId),
    );
  }

  start(): void {
    const replica = this.#ends.length;
    this.#ends.push(null);
    this.parts.push([]);
    this.#open += 1;
    this.agreed.join(replica);
    this.#running.push(this.#run(replica));
  }

  /** Until something has come since the last time. */
  async change(): Promise<void> {
    if (!this.#hasChanged) await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#hasChanged = false;
  }

  stop(reason: unknown): void {
    this.#abort.abort(reason);
  }

  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  failure(replicas: number): SkeinError {
    const answered = this.ended.length;
    if (answered < this.#facts.agreedMin) {
      const why = this.#failure === null ? "" : ` ${this.#failure.message}`;
      return new SkeinError(
        "no_provider",
        `Only ${answered} of ${replicas} independent providers could answer.${why}`,
        { param: "skein.trust", ...(this.#failure === null ? {} : { cause: this.#failure }) },
      );
    }
    return new SkeinError(
      "provider_failed",
      `${answered} providers gave different answers, and nobody here can tell which is right.`,
      {
        param: "skein.trust",
        hint: "Ask for more replicas. A gateway that has the model (auditModel) can tell itself.",
        retry: "never",
      },
    );
  }

  replicaEnd(replica: number, outcome: ReplicaEnd["outcome"]): ReplicaEnd {
    const parts = this.parts[replica]!;
    return { providerId: parts.at(-1)?.providerId ?? null, receipt: receiptName(parts), outcome };
  }

  async #run(replica: number): Promise<void> {
    const { together, choice, answer, enough } = this.#facts;
    const own: Together = {
      ...together,
      modelId: enough.modelId,
      allowOtherModels: false,
      hints: { ...together.hints, trust: { level: "exact" } },
      apart: this.#apart.add(),
    };
    const onParts = (parts: readonly Part[]): void => void (this.parts[replica] = parts);
    const hear = (piece: Piece): undefined => {
      this.agreed.add(replica, piece);
      this.#tell();
    };
    try {
      const asked = { ...choice, home: null, live: null, onParts };
      this.#ends[replica] = await answer(own, asked, this.#abort.signal, hear);
    } catch (error) {
      this.#failure ??= toSkeinError(error);
    } finally {
      if (this.#ends[replica] === null || receiptName(this.parts[replica]!) === null)
        this.agreed.drop(replica);
      this.#open -= 1;
      this.#tell();
    }
  }

  #tell(): void {
    this.#hasChanged = true;
    this.#wake();
  }
}

function replicatedEnd(
  told: Ended,
  { right, agreed, outcomes }: Judgement<Ended>,
  run: ReplicaRun,
  asked: number,
): ChoiceEnd {
  const replicas = run.parts.map((_, replica) => run.replicaEnd(replica, outcomes.get(replica) ?? "failed"));
  // Who broke a tie is not paid beyond what was asked for; nor is who was wrong.
  const alsoPaid = right!
    .filter((other) => other !== told)
    .slice(0, asked - 1)
    .map(({ end: { slices, promptTokens } }) => ({ slices, promptTokens }));
  return { ...told.end, replication: { agreed: Math.min(asked, agreed), replicas, alsoPaid } };
}

/** Now all are there. */
function keepReceipts(
  { receipts, audits }: Pick<ChoiceDeps, "receipts" | "audits">,
  question: Question,
  run: ReplicaRun,
  outcomes: Judgement<Ended>["outcomes"] = new Map(),
): void {
  const { owner, requestId } = question;
  for (const [replica, parts] of run.parts.entries()) {
    const choice = receiptedChoice(question, { replica, parts });
    receipts?.keep(owner, requestId, choice);
    // One failure counts once.
    if (outcomes.get(replica) !== "proved_wrong") audits?.committed(owner, requestId, choice);
  }
}
