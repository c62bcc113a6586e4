/**
 * One round of a beacon by commit and reveal: every gateway commits to a secret, later shows it, and the beacon is a
 * hash over all that were shown. A state machine without clock and network; one gateway alone is a round of one member,
 * bound by the commitment that it gave beforehand.
 *
 * What it cannot prevent: whoever reveals last may see the result and keep its secret, so k members that collude choose
 * among 2^k results. They are named in the result, and whoever keeps the members' list leaves them out.
 */
import { equalBytes, sha256, utf8 } from "../util/bytes.ts";
import { hashBytes } from "./selection.ts";

/** More would make a round's messages grow with the square of the network; a few honest ones suffice. */
export const membersMax = 64;
export const secretBytes = 32;

export type RoundPhase = "commit" | "reveal" | "closed";

/** Why a message was not taken. */
export type Refusal =
  | "not a member"
  | "too late"
  | "too early"
  | "given before"
  | "no commitment"
  | "mismatch";

export interface RoundResult {
  readonly value: Uint8Array;
  /** Members whose secrets went into the value. */
  readonly revealed: readonly string[];
  /** Committed but never showed the secret: a reason to leave them out of later rounds. */
  readonly withheld: readonly string[];
  /** Never committed. */
  readonly absent: readonly string[];
}

export class BeaconRound {
  readonly #round: number;
  readonly #members: readonly string[];
  readonly #commitments = new Map<string, Uint8Array>();
  readonly #secrets = new Map<string, Uint8Array>();
  #phase: RoundPhase = "commit";

  /** @param members ids of those who take part; sorted here, so that all make the same hash */
  constructor(round: number, members: readonly string[]) {
    if (members.length === 0 || members.length > membersMax)
      throw new RangeError(`a round has 1 to ${membersMax} members`);
    this.#round = round;
    this.#members = [...new Set(members)].toSorted();
  }

  get phase(): RoundPhase {
    return this.#phase;
  }

  isMember(id: string): boolean {
    return this.#members.includes(id);
  }

  /** A second commitment of the same member is refused: the first binds. */
  commit(member: string, commitment: Uint8Array): Refusal | null {
    if (!this.isMember(member)) return "not a member";
    if (this.#phase !== "commit") return "too late";
    if (this.#commitments.has(member)) return "given before";
    if (commitment.length !== hashBytes) return "mismatch";
    this.#commitments.set(member, Uint8Array.from(commitment));
    return null;
  }

  /** From here on no commitment is taken: nobody can choose a secret after having seen another's. */
  beginReveal(): void {
    if (this.#phase === "commit") this.#phase = "reveal";
  }

  async reveal(member: string, secret: Uint8Array): Promise<Refusal | null> {
    const given = Uint8Array.from(secret);
    const commitment = this.#commitments.get(member);
    if (!this.isMember(member)) return "not a member";
    if (this.#phase === "commit") return "too early";
    if (commitment === undefined) return "no commitment";
    if (given.length !== secretBytes) return "mismatch";
    const isRight = equalBytes(await commitmentOf(this.#round, member, given), commitment);
    // Looked at after the wait: the round may have closed meanwhile.
    if (this.#isClosed()) return "too late";
    if (!isRight) return "mismatch";
    if (this.#secrets.has(member)) return "given before";
    this.#secrets.set(member, given);
    return null;
  }

  /** Whether all that can still come has come. */
  get isComplete(): boolean {
    return this.#phase !== "commit" && this.#secrets.size === this.#commitments.size;
  }

  /** Ends the round. Null when nobody revealed: then there is no beacon, and the next round decides. */
  async close(): Promise<RoundResult | null> {
    this.#phase = "closed";
    const revealed = this.#members.filter((member) => this.#secrets.has(member));
    if (revealed.length === 0) return null;
    const parts = revealed.flatMap((member) => [...framed(member), this.#secrets.get(member)!]);
    return {
      value: await sha256(utf8("skein-beacon-v1\0"), u64(this.#round), ...parts),
      revealed,
      withheld: this.#members.filter((member) => this.#commitments.has(member) && !this.#secrets.has(member)),
      absent: this.#members.filter((member) => !this.#commitments.has(member)),
    };
  }

  #isClosed(): boolean {
    return this.#phase === "closed";
  }
}

/** What a member publishes first. Bound to round and member, so that nobody can pass off another's as its own. */
export function commitmentOf(round: number, member: string, secret: Uint8Array): Promise<Uint8Array> {
  return sha256(utf8("skein-beacon-commit-v1\0"), u64(round), ...framed(member), secret);
}

/** With its length before it: no two lists of members give the same bytes. */
function framed(member: string): Uint8Array[] {
  const bytes = utf8(member);
  return [u64(bytes.length), bytes];
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return bytes;
}
