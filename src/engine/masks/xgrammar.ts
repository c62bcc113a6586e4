/**
 * XGrammar (Apache-2.0, compiled to WebAssembly): grammars over the bytes of a vocabulary's tokens. Its package is no
 * module that Node can import (a script that calls itself one), so it is run as a function here, which gives it
 * stand-ins for what it would take from its surroundings: its messages are collected, and its memory has a bound.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { compileFunction } from "node:vm";

/** Its grammars are compiled for each vocabulary: tens of megabytes for large ones. A hostile grammar takes all there is. */
const memoryBytesMax: number = 512 * 1024 * 1024;
const pageBytes = 65_536;

interface Disposable {
  dispose(): void;
}

export interface Matcher extends Disposable {
  /** False when the grammar does not allow it here. */
  acceptToken(tokenId: number): boolean;
  /** One bit a token, in words of 32. */
  getNextTokenBitmask(): Promise<Int32Array>;
  isTerminated(): boolean;
}

interface GrammarHandle extends Disposable {
  readonly handle: unknown;
}

interface Library {
  readonly TokenizerInfo: {
    createTokenizerInfo(
      pieces: readonly Uint8Array[],
      kind: "raw",
      prependsSpace: false,
      vocabularySize: number,
      stopTokenIds: readonly number[],
    ): Promise<Disposable>;
  };
  readonly Grammar: { fromEBNF(ebnf: string, root: string): Promise<GrammarHandle> };
  readonly GrammarCompiler: {
    createGrammarCompiler(
      tokenizer: Disposable,
      isCached: boolean,
    ): Promise<{ compileGrammar(grammar: GrammarHandle): Promise<Disposable> }>;
  };
  readonly GrammarMatcher: { createGrammarMatcher(compiled: Disposable): Promise<Matcher> };
}

export interface XGrammar {
  readonly api: Library;
  /** The last thing that it complained about; empties it. */
  complaint(): string;
}

const require = createRequire(import.meta.url);

export function loadXGrammar(): XGrammar {
  const file = require.resolve("@mlc-ai/web-xgrammar");
  let complaint = "";
  const console = {
    log: () => undefined,
    warn: () => undefined,
    error: (text: unknown) => note(String(text)),
  };
  const note = (text: string): void => {
    if (!text.startsWith("Aborted")) complaint = text;
  };
  const exported: Partial<Library> = {};
  // `process` and `document` decide where it believes to run: without the first it touches no file.
  const given = {
    exports: exported,
    module: {},
    process: undefined,
    document: { currentScript: { tagName: "SCRIPT", src: "file:///xgrammar.js" } },
    console,
    WebAssembly: { ...boundedWebAssembly(), RuntimeError: WebAssembly.RuntimeError },
  };
  const run = compileFunction(readFileSync(file, "utf8"), Object.keys(given), { filename: file });
  run(...Object.values(given));
  return {
    api: exported as Library,
    complaint() {
      const text = complaint;
      complaint = "";
      return text;
    },
  };
}

/** Instances whose memories do not grow beyond the bound. */
function boundedWebAssembly(): {
  instantiate: (bytes: BufferSource, imports: WebAssembly.Imports) => Promise<object>;
} {
  return {
    async instantiate(bytes, imports) {
      const { instance, module } = await WebAssembly.instantiate(bytes, imports);
      const exports = Object.fromEntries(
        Object.entries(instance.exports).map(([name, value]) => [
          name,
          value instanceof WebAssembly.Memory ? boundedMemory(value) : value,
        ]),
      );
      return { instance: { exports }, module };
    },
  };
}

function boundedMemory(memory: WebAssembly.Memory): Pick<WebAssembly.Memory, "buffer" | "grow"> {
  return {
    get buffer() {
      return memory.buffer;
    },
    grow(pages) {
      if (memory.buffer.byteLength + pages * pageBytes > memoryBytesMax)
        throw new RangeError("out of memory");
      return memory.grow(pages);
    },
  };
}
