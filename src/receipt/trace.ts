/** Row hashes of an answer as they come, and what follows from them: the chain and the root (docs/EXACT.md, "Commitments"). */
import { chainHead, hashBytes, merkleRoot, type Sha256 } from "../exact/commitment/commitment.ts";
import type { Execution } from "./receipt.ts";

export class Trace {
  readonly #sha256: Sha256;
  readonly #rows: Uint8Array[] = [];
  /** The chain's head behind each position. */
  readonly #chain: Uint8Array[] = [];

  constructor(sha256: Sha256) {
    this.#sha256 = sha256;
  }

  /** Positions so far. */
  get positions(): number {
    return this.#rows.length;
  }

  /** The chain's head behind so many positions. */
  chain(positions: number): Uint8Array {
    return positions === 0 ? new Uint8Array(hashBytes) : this.#chain[positions - 1]!;
  }

  /** @param tokens what was read at the positions of `rows`, which are 32 bytes each */
  push(tokens: readonly number[], rows: Uint8Array): void {
    for (const [i, token] of tokens.entries()) {
      const row = rows.subarray(i * hashBytes, (i + 1) * hashBytes);
      this.#chain.push(chainHead(this.#sha256, this.chain(this.#rows.length), token, row));
      this.#rows.push(row);
    }
  }

  execution(): Execution {
    return {
      positions: this.#rows.length,
      root: merkleRoot(this.#sha256, this.#rows),
      chain: this.chain(this.#rows.length),
    };
  }
}
