import { memorySource } from "./byte-source.ts";
import { byteSourceSuite } from "./byte-source.suite.ts";

byteSourceSuite("memory", async (name, bytes) => memorySource(name, bytes));
