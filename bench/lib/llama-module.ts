import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** node-llama-cpp, as this checkout has it for tests and benchmarks. */
export const llamaModuleFolder: string = join(root, "engines", "llama", "node_modules", "node-llama-cpp");
