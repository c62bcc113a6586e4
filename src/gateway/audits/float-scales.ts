/** Models of the float tier that answers can be weighed with: loaded only while there is something to weigh. */
import type { CalibrationRecord } from "../../audit/calibration.ts";
import type { Scoring } from "../../audit/honest-streams.ts";
import type { AnswerScores, Engine, ScoreRequest } from "../../engine/port.ts";
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";

export interface FloatScales {
  /** What honest answers of a model look like here; null: it is not here. */
  calibrationOf(modelId: string): CalibrationRecord | null;
  /** One at a time. @param contextTokens that it must have room for. @throws as `Engine.score` */
  score(
    modelId: string,
    request: ScoreRequest,
    contextTokens: number,
    signal: AbortSignal,
  ): Promise<AnswerScores>;
  close(): Promise<void>;
}

type ScoringEngine = Scoring & Pick<Engine, "close">;

/** Then the engine is closed and gives its memory back. */
const idleMs = 60_000;
/** Answers of this length have room without loading the model again. */
const contextTokensMin = 2_048;
/** Reading a long answer on a slow machine; longer is a hang. */
const scoreTimeoutMs = 10 * 60_000;

/** @param open loads a model. @throws SkeinError */
export function createFloatScales(
  clock: Clock,
  calibrations: readonly CalibrationRecord[],
  open: (modelId: string, contextTokens: number) => Promise<ScoringEngine>,
): FloatScales {
  const byModel = new Map(calibrations.map((record) => [record.model_id, record]));
  let loaded: { modelId: string; contextTokens: number; engine: ScoringEngine } | null = null;
  let last: Promise<unknown> = Promise.resolve();
  let cancelIdle = (): void => undefined;
  let isClosed = false;

  const unload = async (): Promise<void> => {
    cancelIdle();
    const { engine } = loaded ?? {};
    loaded = null;
    await engine?.close();
  };
  const engineFor = async (modelId: string, contextTokens: number): Promise<ScoringEngine> => {
    if (loaded?.modelId !== modelId || loaded.contextTokens < contextTokens) {
      await unload();
      const room = Math.max(contextTokensMin, contextTokens);
      loaded = { modelId, contextTokens: room, engine: await open(modelId, room) };
    }
    // It may have been closed while the model was loaded.
    if (isClosed) {
      await unload();
      throw new SkeinError("engine_unavailable", "The gateway is closing.");
    }
    return loaded.engine;
  };
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = last.then(work);
    last = done.catch(() => undefined);
    return done;
  };

  return {
    calibrationOf: (modelId) => byModel.get(modelId) ?? null,
    score: (modelId, request, contextTokens, signal) =>
      inTurn(async () => {
        signal.throwIfAborted();
        cancelIdle();
        const timeout = new AbortController();
        const cancelTimeout = clock.schedule(scoreTimeoutMs, () => timeout.abort());
        try {
          const engine = await engineFor(modelId, contextTokens);
          return await engine.score(request, AbortSignal.any([signal, timeout.signal]));
        } finally {
          cancelTimeout();
          if (!isClosed) cancelIdle = clock.schedule(idleMs, () => void inTurn(unload));
        }
      }),
    close: async () => {
      isClosed = true;
      await inTurn(unload);
    },
  };
}
