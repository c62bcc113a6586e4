import { systemClock } from "../util/clock.ts";
import { describeEngine } from "./engine.suite.ts";
import { createNaiveEngine, naiveDefaults } from "./naive.ts";

describeEngine("naive", { question: "Which goose flies at the front?", exact: true }, async () =>
  createNaiveEngine({ clock: systemClock }, { ...naiveDefaults, msPerToken: 1 }),
);
