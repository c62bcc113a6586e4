/**
 * The thread that computes masks: which tokens a grammar allows next. Whatever a hostile grammar does to the library,
 * it does it here, where a deadline ends it.
 */
import { parentPort, workerData } from "node:worker_threads";
import { outcomes, shared, type FromMaskThread, type ToMaskThread, type Vocabulary } from "./messages.ts";
import { loadXGrammar, type Matcher } from "./xgrammar.ts";

const port = parentPort!;
const vocabulary = workerData as Vocabulary;
const words = Math.ceil(vocabulary.ends.length / 32);
const stopWords = new Int32Array(words);
for (const id of vocabulary.stopIds) stopWords[id >>> 5]! |= 1 << (id & 31);

const xgrammar = loadXGrammar();
// Before anything else is asked of the library: two first calls at once would load it twice.
const compiler = await createCompiler();

const compiled = new Map<string, { dispose(): void }>();
const open = new Map<number, { readonly matcher: Matcher; readonly view: Int32Array }>();

function send(message: FromMaskThread): void {
  port.postMessage(message);
}

async function createCompiler() {
  const { TokenizerInfo, GrammarCompiler } = xgrammar.api;
  const { bytes, ends, stopIds } = vocabulary;
  const pieces = Array.from(ends, (end, i) => bytes.slice(i === 0 ? 0 : ends[i - 1]!, end));
  const tokenizer = await TokenizerInfo.createTokenizerInfo(pieces, "raw", false, pieces.length, stopIds);
  return GrammarCompiler.createGrammarCompiler(tokenizer, false);
}

async function compile(text: string): Promise<void> {
  const grammar = await xgrammar.api.Grammar.fromEBNF(text, "root");
  compiled.set(text, await compiler.compileGrammar(grammar));
  grammar.dispose();
}

async function begin(message: Extract<ToMaskThread, { type: "open" }>): Promise<void> {
  const grammar = compiled.get(message.grammar)!;
  const matcher = await xgrammar.api.GrammarMatcher.createGrammarMatcher(grammar);
  const view = new Int32Array(message.memory);
  open.set(message.id, { matcher, view });
  const isAllowed = message.tokenIds.every((tokenId) => matcher.acceptToken(tokenId));
  await publish(matcher, view, isAllowed);
  send({ type: "opened", id: message.id });
}

/** Writes what is allowed next, then the number of the state: who reads it finds the mask complete. */
async function publish(matcher: Matcher, view: Int32Array, isAllowed: boolean): Promise<void> {
  if (isAllowed) view.set(await matcher.getNextTokenBitmask(), shared.mask);
  const mask = view.subarray(shared.mask);
  view[shared.outcome] = !isAllowed
    ? outcomes.refused
    : mask.some((word, i) => (word & ~stopWords[i]!) !== 0)
      ? outcomes.open
      : outcomes.complete;
  Atomics.add(view, shared.states, 1);
  Atomics.notify(view, shared.states);
}

async function handle(message: ToMaskThread): Promise<void> {
  switch (message.type) {
    case "compile":
      await compile(message.grammar);
      return send({ type: "compiled", id: message.id });
    case "open":
      return begin(message);
    case "advance": {
      const { matcher, view } = open.get(message.id)!;
      return publish(matcher, view, matcher.acceptToken(message.tokenId));
    }
    case "close":
      open.get(message.id)?.matcher.dispose();
      open.delete(message.id);
      break;
    case "forget":
      compiled.get(message.grammar)?.dispose();
      compiled.delete(message.grammar);
  }
}

let last = Promise.resolve();
port.on("message", (message: ToMaskThread) => {
  // In order: everything below may wait.
  last = last.then(() =>
    handle(message).catch((error: unknown) => {
      const trap =
        error instanceof WebAssembly.RuntimeError ? "it is too large or too complex" : String(error);
      send({ type: "refused", id: message.id, reason: xgrammar.complaint() || trap });
    }),
  );
});
