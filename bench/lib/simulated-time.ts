/** What makes a simulation repeatable: time that stands still while anything runs, and cryptography without threads. */
import { createHash, KeyObject, sign, verify } from "node:crypto";
import type { ManualClock } from "../../src/util/clock.ts";

type Subtle = (...given: never[]) => Promise<unknown>;

/**
 * Web cryptography computes in other threads, which end in any order. Until the returned function is called it
 * computes in this one instead: the same calls give the same answers in the same order.
 */
export function withoutThreads(): () => void {
  const keyOf = (key: CryptoKey): KeyObject => KeyObject.from(key);
  const isEd25519 = (algorithm: unknown): void => {
    if (algorithm !== "Ed25519") throw new Error(`${String(algorithm)} is not simulated`);
  };
  const importKey = crypto.subtle.importKey.bind(crypto.subtle) as (
    ...given: unknown[]
  ) => Promise<CryptoKey>;
  const replaced: Record<string, Subtle> = {
    // Keys that may not be exported cannot be handed over to the functions below.
    importKey: (format: string, data: unknown, algorithm: unknown, _: boolean, usages: unknown) =>
      importKey(format, data, algorithm, true, usages),
    sign: async (algorithm: string, key: CryptoKey, data: Uint8Array) => {
      isEd25519(algorithm);
      return new Uint8Array(sign(null, data, keyOf(key))).buffer;
    },
    verify: async (algorithm: string, key: CryptoKey, signature: Uint8Array, data: Uint8Array) => {
      isEd25519(algorithm);
      return verify(null, data, keyOf(key), signature);
    },
    digest: async (algorithm: string, data: Uint8Array) =>
      new Uint8Array(createHash(algorithm.replace("-", "")).update(data).digest()).buffer,
  };
  for (const [name, value] of Object.entries(replaced)) {
    Object.defineProperty(crypto.subtle, name, { value, configurable: true });
  }
  return () => {
    for (const name of Object.keys(replaced)) Reflect.deleteProperty(crypto.subtle, name);
  };
}

/** Turns of the event loop after which nothing runs that does not wait for time. */
const turns = 3;

/** Lets everything run that does not wait for time. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Time jumps to the next timer, or by `atLeastMs` where one is sooner, but not beyond `untilMs`. */
export async function passUntil(clock: ManualClock, untilMs: number, atLeastMs: number): Promise<void> {
  while (clock.monotonicMs() < untilMs) {
    const nowMs = clock.monotonicMs();
    const nextMs = clock.nextDueMs ?? untilMs;
    clock.advance(Math.min(untilMs, Math.max(nextMs, nowMs + atLeastMs)) - nowMs);
    await settle();
  }
}
