/**
 * Requests of the gateway's own, on the path of every other: whoever gets little work is audited, too, and no user's prompt is
 * needed for it. Nothing in them says what they are.
 */
import type { Prompt } from "../../protocol/generate.ts";
import type { Clock } from "../../util/clock.ts";
import type { Random } from "../../util/random.ts";
import type { CanaryOptions } from "./options.ts";

/** A little stories-and-sums list, for models that talk and those that go on with a text. */
export const canaryPrompts: readonly Prompt[] = [
  "Tell me a short story about a fox and a river.",
  "What is 17 + 25?",
  "Explain in two sentences why the sky is blue.",
  "Write a friendly reply to somebody who missed a meeting.",
  "Name three fruits and say what they taste like.",
  "How do I boil an egg?",
].map((content) => ({ kind: "chat", messages: [{ role: "user", content }] }));

const outputTokensMax = [32, 64, 100, 128, 200, 256] as const;

export interface Canary {
  readonly model: string;
  readonly prompt: Prompt;
  readonly outputTokensMax: number;
  readonly temperature: number;
}

interface Deps {
  readonly clock: Clock;
  readonly random: Random;
  /** Names or identities that can be audited here; empty: nobody to ask. */
  readonly models: () => readonly string[];
  /** Asks as a client does. */
  readonly ask: (canary: Canary) => Promise<void>;
}

/** @returns a function that stops it */
export function startCanaries({ clock, random, models, ask }: Deps, options: CanaryOptions): () => void {
  let cancel = (): void => undefined;
  let isStopped = false;
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random.next() * from.length)]!;
  const schedule = (): void => {
    if (isStopped) return;
    // Exponential waits: when the last one came says nothing about the next.
    const delayMs = Math.min(10, -Math.log(1 - random.next())) * options.intervalMs;
    cancel = clock.schedule(Math.round(delayMs), () => {
      const names = models();
      const done =
        names.length === 0
          ? Promise.resolve()
          : ask({
              model: pick(names),
              prompt: pick(options.prompts),
              outputTokensMax: pick(outputTokensMax),
              temperature: pick([0, 0.7, 1]),
            }).catch(() => undefined);
      void done.then(schedule);
    });
  };
  schedule();
  return () => {
    isStopped = true;
    cancel();
  };
}
