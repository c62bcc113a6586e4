/** Readers for values of flags; a wrong value is a usage error that names the flag. */
import { InvalidArgumentError } from "commander";

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
