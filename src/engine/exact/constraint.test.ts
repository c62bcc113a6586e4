import { after, before } from "node:test";
import { describeConstraints } from "../constraint.suite.ts";
import { openEngine } from "./fixture.suite.ts";

let engine: Awaited<ReturnType<typeof openEngine>>;
before(async () => {
  engine = await openEngine();
});
after(() => engine.close());

describeConstraints(() => engine);
