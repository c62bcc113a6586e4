/** Where a peer stands among the others, so that distances are round trips (`router/coordinates.ts`). */

export interface NetworkCoordinate {
  /** A point of `coordinateDimensions` dimensions, in milliseconds of round trip. */
  readonly positionMs: readonly number[];
  /** What the peer's own line adds to every round trip, in milliseconds. */
  readonly heightMs: number;
  /** How wrong its distances usually are, as a share of the round trip: 0 never, 1 and more: nothing is known yet. */
  readonly error: number;
}

/** A fourth one is better only for who joined many gateways (`npm run bench -- coordinates`). */
export const coordinateDimensions = 3;
/** No two places on earth are as far apart, satellites included. */
export const coordinateMaxMs = 5_000;
export const coordinateErrorMax = 1.5;
