/** Readers for values of flags; a wrong value is a usage error that names the flag. */
import { InvalidArgumentError } from "commander";
import { logitBiasMax, type TokenBias } from "../protocol/generate.ts";

export function numberBetween(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`It must be a number from ${min} to ${max}.`);
  };
}

export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}

/** A flag that may be given more than once: the lists of all its values are one list. */
export function collectList(text: string, previous: string | undefined): string {
  return previous === undefined ? text : `${previous},${text}`;
}

/** A flag that may be given more than once: texts as they are, commas included. */
export function collectTexts(text: string, previous: readonly string[] | undefined): readonly string[] {
  if (text === "") throw new InvalidArgumentError("It must not be empty.");
  return [...(previous ?? []), text];
}

/** `5=-100`: a token id and what is added to its logit. May be given more than once; of one id the last counts. */
export function collectBias(text: string, previous: readonly TokenBias[] | undefined): readonly TokenBias[] {
  const [, id, nats] = /^(\d{1,10})=(-?\d+(?:\.\d+)?)$/.exec(text) ?? [];
  const entry = [Number(id), Number(nats)] as const;
  if (id === undefined || entry[0] > 0xffff_ffff || Math.abs(entry[1]) > 100) {
    throw new InvalidArgumentError("It must be a token id and a number from -100 to 100, such as 5=-100.");
  }
  const others = (previous ?? []).filter(([other]) => other !== entry[0]);
  if (others.length === logitBiasMax) {
    throw new InvalidArgumentError(`It may be given for at most ${logitBiasMax} tokens.`);
  }
  return [...others, entry];
}
