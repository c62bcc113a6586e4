const suffix = "-exact";

/** A name stands for one model: the exact one must not be taken for the same weights in another engine. */
export function exactNameOf(name: string): string {
  return name.endsWith(suffix) ? name : `${name}${suffix}`;
}
