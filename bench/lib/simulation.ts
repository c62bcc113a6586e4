/** Runs a seed: requests of all manners while troubles happen, then the questions: errors, altered texts, things left behind. */
import { createHash } from "node:crypto";
import { type Random, seededRandom } from "../../src/util/random.ts";
import { type Answer, ask, type Manner } from "./simulated-client.ts";
import { withoutThreads } from "./simulated-time.ts";
import { warmUpMs, World } from "./simulated-world.ts";

const providersCount = 4;
const requestsCount = 12;
const delayMaxMs = 30;
/** Requests come within this time. */
const arrivalMs = 3_000;
/** Troubles come until then; afterwards everything must end well. */
const troubleMs = 8_000;
/** How often something may happen, and how probable it is. */
const stepMs = 20;
const troubleChance = 0.08;
/** No answer takes as long; reaching it is a failure. */
const endMs = 60_000;
/** What nobody asks for any more must be over by then: a probe of a provider that fell silent takes longest. */
const quietMs = 35_000;
/** A client without a line comes back within this time. */
const awayMaxMs = 2_000;
const manners: readonly Manner[] = ["whole", "whole", "stream", "stream", "stream", "resume", "leave"];

export interface Simulated {
  readonly errors: readonly string[];
  readonly altered: number;
  readonly miscounted: number;
  readonly leftovers: readonly string[];
  /** Answers that were read to their end, and the attempts that they took. */
  readonly answers: number;
  readonly attempts: number;
  readonly simulatedMs: number;
  /** What lies about where it is brought who lies: attempts at it, and on average at those like it. */
  readonly attemptsAtDeceiver: number;
  readonly attemptsAtHonest: number;
  /** Of everything that was sent, when, and what came of it: equal for equal seeds. */
  readonly digest: string;
}

interface Asked {
  readonly atMs: number;
  readonly manner: Manner;
  readonly readEvents: number;
  readonly awayMs: number;
  readonly body: Record<string, unknown>;
}

/** @param onEvent hears of every frame and trouble, with the simulated milliseconds */
export async function simulate(
  seed: number,
  onEvent: (event: string) => void = () => undefined,
): Promise<Simulated> {
  const release = withoutThreads();
  try {
    return await run(seed, onEvent);
  } finally {
    release();
  }
}

async function run(seed: number, onEvent: (event: string) => void): Promise<Simulated> {
  const random = seededRandom(seed);
  const asked = Array.from({ length: requestsCount }, () => randomRequest(random));
  const expected = await undisturbed(asked);
  const digest = createHash("sha256");
  const world = await World.create(random, providersCount, delayMaxMs, (event) => {
    digest.update(`${event}\n`);
    onEvent(event);
  });
  // 1. Time passes; requests and troubles come as the seed says.
  const answers: (Answer | undefined)[] = asked.map(() => undefined);
  asked.forEach((one, i) => {
    world.clock.schedule(one.atMs - warmUpMs, () => {
      world.note(`request ${i}, ${one.manner}`);
      const pause = (): Promise<void> =>
        new Promise((resolve) => world.clock.schedule(one.awayMs, () => resolve()));
      void ask(world.gateway, one.body, one.manner, one.readEvents, pause)
        .catch((error: unknown): Answer => ({
          error: String(error),
          texts: [],
          outputTokens: 0,
          attempts: 0,
        }))
        .then((answer) => {
          answers[i] = answer;
          world.note(`answer ${i}: ${JSON.stringify(answer)}`);
        });
    });
  });
  while (world.elapsedMs < endMs && (world.elapsedMs < warmUpMs + arrivalMs || answers.includes(undefined))) {
    if (world.elapsedMs < troubleMs && random.next() < troubleChance) world.trouble();
    await world.pass(stepMs);
  }
  // 2. What did clients see, and what is left?
  const simulatedMs = world.elapsedMs;
  const leftovers = await quiet(world);
  await world.close();
  const { deceiver, honest } = world.attempts;
  const given = {
    attemptsAtDeceiver: deceiver,
    attemptsAtHonest: honest.reduce((sum, count) => sum + count, 0) / honest.length,
  };
  return {
    ...judge(asked, answers, expected),
    ...given,
    leftovers,
    simulatedMs,
    digest: digest.digest("hex"),
  };
}

function judge(
  asked: readonly Asked[],
  answers: readonly (Answer | undefined)[],
  expected: readonly Answer[],
): Pick<Simulated, "errors" | "altered" | "miscounted" | "answers" | "attempts"> {
  const errors: string[] = [];
  let [altered, miscounted, whole, attempts] = [0, 0, 0, 0];
  for (const [i, answer] of answers.entries()) {
    const { manner } = asked[i]!;
    if (answer === undefined) errors.push(`request ${i} (${manner}) hangs`);
    else if (manner === "leave") altered += Number(!isBeginning(answer, expected[i]!));
    else if (answer.error !== null) errors.push(`request ${i} (${manner}): ${answer.error}`);
    else {
      altered += Number(JSON.stringify(answer.texts) !== JSON.stringify(expected[i]!.texts));
      miscounted += Number(answer.outputTokens !== expected[i]!.outputTokens);
      whole += 1;
      attempts += answer.attempts;
    }
  }
  return { errors, altered, miscounted, answers: whole, attempts };
}

function isBeginning({ texts }: Answer, whole: Answer): boolean {
  return texts.every((text, i) => whole.texts[i]!.startsWith(text));
}

/** Waits until nothing is left; what is, after all. */
async function quiet(world: World): Promise<string[]> {
  let left = await world.leftovers();
  for (let waitedMs = 0; left.length > 0 && waitedMs < quietMs; waitedMs += 500) {
    await world.pass(500);
    left = await world.leftovers();
  }
  return left;
}

function randomRequest(random: Random): Asked {
  const number = Math.floor(random.next() * 1e6);
  const stop = random.next() < 0.3 ? { stop: ["flies the", "🪿 "] } : {};
  return {
    atMs: warmUpMs + Math.floor(random.next() * arrivalMs),
    manner: manners[Math.floor(random.next() * manners.length)]!,
    readEvents: Math.floor(random.next() * 30),
    awayMs: random.next() * awayMaxMs,
    body: {
      model: "naive",
      messages: [{ role: "user", content: `Which goose is number ${number}?` }],
      temperature: 1,
      seed: number,
      n: random.next() < 0.2 ? 2 : 1,
      ...stop,
    },
  };
}

/** The same requests where nothing happens. */
async function undisturbed(asked: readonly Asked[]): Promise<Answer[]> {
  const world = await World.create(seededRandom(0), 1, 0, () => undefined);
  const over = new AbortController();
  const answers = Promise.all(
    asked.map(({ body }) => ask(world.gateway, body, "whole", 0, async () => undefined)),
  ).finally(() => over.abort());
  while (!over.signal.aborted) await world.pass(stepMs);
  await world.close();
  return answers;
}
