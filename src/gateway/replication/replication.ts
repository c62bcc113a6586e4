import type { ChoiceEnd } from "../answers/answer-choice.ts";

/** What became of a replica. `outvoted` is no proof: most others gave another answer, and nobody here could compute it. */
export type ReplicaOutcome = "agreed" | "proved_wrong" | "outvoted" | "differed" | "failed";

export interface ReplicaEnd {
  /** Whoever gave its end; null: nobody. */
  readonly providerId: string | null;
  /** What its receipt is called by. */
  readonly receipt: string | null;
  readonly outcome: ReplicaOutcome;
}

/** How an answer of several replicas came about. */
export interface Replication {
  /** Parties that computed the same: providers, and the gateway where it computed the answer again. */
  readonly agreed: number;
  readonly replicas: readonly ReplicaEnd[];
  /** The other replicas with the same answer: each is paid like the one that was told. */
  readonly alsoPaid: readonly Pick<ChoiceEnd, "slices" | "promptTokens">[];
}
