import { describeEngine } from "../engine.suite.ts";
import { openEngine } from "./fixture.suite.ts";

describeEngine("exact", { question: "Tell me a story about a goose.", exact: true }, () => openEngine());
