/** Rotary positions (Su et al. 2021) without floating point: angles are fractions of a turn. */
import { quarterSineEntries, quarterSineTable } from "./tables.ts";
import { roundShift } from "./integers.ts";

/** Fractional bits of a turn per position; a position of 2^20 turns by less than 2^−28 too much. */
export const turnBits = 48;
const limb = 2 ** 24;
const phaseSteps = 2 ** 32;
const quarterSteps: number = phaseSteps / 4;
const stepsPerEntry: number = quarterSteps / quarterSineEntries;

/** Where the angle is after `position` steps of `turn / 2^48` turns: an unsigned 32-bit fraction of a turn. */
export function phaseOf(turn: number, position: number): number {
  // Products of 24-bit limbs stay below 2^53; what exceeds a whole turn is of no matter.
  const low = position * (turn % limb);
  const high = (position * Math.floor(turn / limb) + Math.floor(low / limb)) % limb;
  return Math.floor((high * limb + (low % limb)) / 2 ** (turnBits - 32));
}

/** 2^15 · sine of a phase: linear between the table's entries, rounded once. */
export function sineOf(phase: number): number {
  const quarter = Math.floor(phase / quarterSteps);
  const within = phase % quarterSteps;
  // The second and the fourth quarter run backwards.
  const forward = quarter % 2 === 0 ? within : quarterSteps - within;
  const entry = Math.floor(forward / stepsPerEntry);
  const [from, to] = [quarterSineTable[entry]!, quarterSineTable[Math.min(entry + 1, quarterSineEntries)]!];
  const sine = roundShift(from + roundShift((to - from) * (forward % stepsPerEntry), 20), 15);
  return quarter < 2 ? sine : -sine + 0;
}

export function cosineOf(phase: number): number {
  return sineOf((phase + quarterSteps) % phaseSteps);
}
