/** A batch in which requests come, rest and are cancelled by chance. */
import type { PagedExecutor } from "../../exact/executor.ts";
import type { Dice } from "../../exact/random-model.suite.ts";
import { unreadEventsMax } from "../hosted/messages.ts";
import { BatchLoop, type BatchLoopEvents, type StepEvents } from "./batch-loop.ts";
import type { Sequence } from "./sequence.ts";
import type { Speculation } from "./speculation.ts";

/** Runs requests that come between steps, some of which are cancelled or not read for a while. Returns who was cancelled. */
export function runDisturbed(
  executor: PagedExecutor,
  speculation: Speculation,
  sequences: readonly Sequence[],
  dice: Dice,
  onStep: (events: StepEvents) => void = () => undefined,
): Promise<ReadonlySet<Sequence>> {
  const cancelled = new Set<Sequence>();
  return new Promise((resolve, reject) => {
    const coming = [...sequences];
    const open = new Set<Sequence>();
    const resting = new Set<Sequence>();
    const readAgain = (): void => {
      for (const sequence of resting) sequence.unreadEvents = 0;
      resting.clear();
      loop.wake();
    };
    const disturb = (): void => {
      while (coming.length > 0 && (open.size === 0 || dice.chance(0.4))) {
        const sequence = coming.shift()!;
        open.add(sequence);
        loop.add(sequence);
      }
      const one = dice.pick([...open, null]);
      if (one !== null && dice.chance(0.05)) {
        one.unreadEvents = unreadEventsMax;
        resting.add(one);
        setImmediate(() => setImmediate(readAgain));
      } else if (one !== null && dice.chance(0.03)) {
        cancelled.add(one);
        open.delete(one);
        loop.remove(one);
      }
      for (const sequence of open) if (!resting.has(sequence)) sequence.unreadEvents = 0;
      if (open.size === 0 && coming.length === 0) resolve(cancelled);
      else if (open.size === 0) disturb();
    };
    const loopEvents: BatchLoopEvents = {
      onStep(events) {
        onStep(events);
        for (const [sequence, event] of events) if (event.type === "end") open.delete(sequence);
        disturb();
      },
      onFailure: reject,
    };
    const loop = new BatchLoop(executor, loopEvents, speculation);
    disturb();
  });
}
