import type { GatewayLinkState } from "../../provider/index.ts";
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";

/** Gateways on the local network answer within a second or two; a busy wireless one gets some more. */
const lanSearchMs = 15_000;

export interface FirstJoin {
  /** Resolves when a gateway is joined; rejects when none can be. */
  readonly settled: Promise<void>;
  onGateway(target: string, state: GatewayLinkState): void;
}

/** Waits for the first of several gateways: one that cannot be joined does not speak for the others. */
export function createFirstJoin(
  clock: Clock,
  options: { readonly targets: readonly string[]; readonly lan: boolean },
): FirstJoin {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const failures = new Map<string, SkeinError>();
  // Nobody may wait for it.
  promise.catch(() => undefined);
  const cancel = options.lan
    ? clock.schedule(lanSearchMs, () => reject(failureOf(failures)))
    : () => undefined;
  return {
    settled: promise,
    onGateway(target, state) {
      if (state.state === "joined") {
        cancel();
        resolve();
      }
      if (state.state !== "waiting" || !options.targets.includes(target)) return;
      failures.set(target, state.error);
      if (!options.lan && failures.size === options.targets.length) reject(failureOf(failures));
    },
  };
}

function failureOf(failures: ReadonlyMap<string, SkeinError>): SkeinError {
  const [first, ...more] = failures;
  if (first === undefined)
    return new SkeinError("connection_failed", "No gateway was found on the local network.", {
      hint: "Start one there with `skein gateway --listen --lan`, or name one with --join.",
    });
  if (more.length === 0) return first[1];
  const lines = [...failures].map(([target, error]) => `\n  ${target}: ${error.text}`);
  return new SkeinError(
    "connection_failed",
    `None of the ${failures.size} gateways can be joined:${lines.join("")}`,
  );
}
