/** What an engine that draws its tokens itself does about a request's constraint: the same for all of them. */
import type { GenerateRequest } from "../protocol/generate.ts";
import type { TokenMask, TokenMasks } from "./masks/token-masks.ts";

/** Requests whose constraints are being prepared; whoever is cancelled meanwhile never starts. */
export class ConstrainedStarts {
  readonly #masks: TokenMasks;
  readonly #waiting = new Set<number>();

  constructor(masks: TokenMasks) {
    this.#masks = masks;
  }

  /**
   * Starts a request, at once when it has no constraint.
   * @param start must close the mask in the end, also when it throws
   */
  begin(
    id: number,
    { constraint, emitted }: GenerateRequest,
    on: { start(mask: TokenMask | null): void; failed(error: unknown): void },
  ): void {
    if (constraint === null) return on.start(null);
    this.#waiting.add(id);
    this.#masks.open(constraint.grammar, emitted.tokenIds).then(
      (mask) => {
        if (this.#waiting.delete(id)) on.start(mask);
        else mask.close();
      },
      (error: unknown) => {
        if (this.#waiting.delete(id)) on.failed(error);
      },
    );
  }

  /** Whether it was still being prepared: then nobody hears of it again. */
  cancel(id: number): boolean {
    return this.#waiting.delete(id);
  }
}
