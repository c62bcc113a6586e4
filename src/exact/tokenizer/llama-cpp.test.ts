/** The tokenizer against llama.cpp itself: not one token may differ. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../../util/random.ts";
import { classBytes, preTokenizers } from "./pre-tokenizers.ts";
import { createTokenizer, type ExactTokenizer, type TextPiece } from "./tokenizer.ts";
import { dataOf, hardTexts, randomTexts, tinyVocabulary } from "./fixture.suite.ts";
import {
  altered,
  expectations,
  isMissing,
  type ReferenceModel,
  sourceFile,
  vocabulary,
  withReference,
} from "./llama-cpp.suite.ts";
import { unicodeClassRuns } from "./unicode-classes.ts";

const options = { skip: isMissing };
const withExpectations = [
  "llama-bpe",
  "llama-spm",
  "qwen2",
  "gpt-2",
  "deepseek-llm",
  "deepseek-coder",
  "starcoder",
  "refact",
  "mpt",
  "command-r",
  "phi-3",
];

for (const name of withExpectations) {
  test(`${name}: what llama.cpp's own tests expect`, options, () => {
    const tokenizer = createTokenizer(dataOf(vocabulary(name)));
    for (const { text, tokens } of expectations(name)) {
      assert.deepEqual(
        tokenizer.encode(text, { parseSpecial: false, addSpecial: false }),
        tokens,
        JSON.stringify(text),
      );
    }
  });
}

const texts = 500;

for (const name of ["llama-bpe", "llama-spm", "qwen2", "deepseek-llm", "deepseek-coder", "starcoder"]) {
  test(`${name}: the same as llama.cpp on hard and random texts`, options, async () => {
    await compare(vocabulary(name));
  });
}

for (const pre of preTokenizers) {
  test(`gpt-2 with the pre-tokenizer ${pre}: the same as llama.cpp`, options, async () => {
    await compare(altered(vocabulary("gpt-2"), { "tokenizer.ggml.pre": pre }));
  });
}

test("llama-spm without space prefix and beginning token: the same as llama.cpp", options, async () => {
  const changes = { "tokenizer.ggml.add_space_prefix": false, "tokenizer.ggml.add_bos_token": false };
  await compare(altered(vocabulary("llama-spm"), changes));
});

test("the demo model: the same as llama.cpp", options, async () => {
  await compare(tinyVocabulary());
});

test("the classes of characters are llama.cpp's", options, () => {
  // Counted apart from the script that makes the table.
  const source = sourceFile("src/unicode-data.cpp").toString();
  const starts = [
    ...source.slice(0, source.indexOf("unicode_set_whitespace")).matchAll(/\{0x(\w+), 0x(\w+)\}/g),
  ];
  const letters = starts.reduce((sum, [, start, flags], i) => {
    const end = Number.parseInt(starts[i + 1]?.[1] ?? "110000", 16);
    return sum + (Number.parseInt(flags!, 16) & 4 ? end - Number.parseInt(start!, 16) : 0);
  }, 0);
  const runs = [...unicodeClassRuns.matchAll(/([A-Z])([0-9a-z]*)/g)].map(([, letter, length]) => ({
    letter: letter!,
    length: length === "" ? 1 : Number.parseInt(length!, 36),
  }));
  assert.equal(
    runs.reduce((sum, { length }) => sum + length, 0),
    0x110000,
  );
  assert.equal(
    runs.reduce((sum, { letter, length }) => sum + (letter === "L" ? length : 0), 0),
    letters,
  );
  assert.ok(runs.every(({ letter }) => Object.hasOwn(classBytes, letter)));
});

async function compare(file: Buffer): Promise<void> {
  const data = dataOf(file);
  const tokenizer = createTokenizer(data);
  await withReference(file, (reference) => {
    const all = [...hardTexts, ...randomTexts(7, texts, data.tokens)];
    for (const text of all) {
      assert.deepEqual(
        tokenizer.encodeContinuation(text),
        [...reference.tokenize(text, false, "trimLeadingSpace")],
        `${JSON.stringify(text)} continued`,
      );
      for (const parseSpecial of [false, true]) {
        assert.deepEqual(
          tokenizer.encode(text, { parseSpecial, addSpecial: false }),
          [...reference.tokenize(text, parseSpecial)],
          `${JSON.stringify(text)} ${parseSpecial}`,
        );
      }
    }
    for (const pieces of randomPieces(all)) {
      assert.deepEqual(tokenizer.encodePieces(pieces), ofPieces(reference, pieces), JSON.stringify(pieces));
    }
    sameKinds(tokenizer, reference);
  });
}

/**
 * Not with the escape of a space where a template's own text begins: only with SentencePiece, node-llama-cpp takes it
 * for a space and leaves out the space prefix.
 */
function randomPieces(all: readonly string[]): TextPiece[][] {
  const random = seededRandom(11);
  return Array.from({ length: all.length / 2 }, () =>
    Array.from({ length: 1 + Math.floor(random.next() * 4) }, () => ({
      text: all[Math.floor(random.next() * all.length)]!.slice(0, 500),
      special: random.next() < 0.5,
    })).filter(({ text, special }) => text !== "" && !(special && /^ *▁/.test(text))),
  );
}

/** As the llama engine puts a prompt together (engine/llama/prompt.ts). */
function ofPieces(reference: ReferenceModel, pieces: readonly TextPiece[]): number[] {
  const tokens = pieces.flatMap(({ text, special }, i) =>
    i === 0 ? reference.tokenize(text, special) : reference.tokenize(text, special, "trimLeadingSpace"),
  );
  const bos = reference._model.tokenBos();
  return reference._model.shouldPrependBosToken() && tokens[0] !== bos ? [bos, ...tokens] : tokens;
}

/** Which tokens end an answer, and which are special (bits of llama.cpp's `llama_token_attr`). */
function sameKinds(tokenizer: ExactTokenizer, { _model: model }: ReferenceModel): void {
  const ids = Array.from({ length: tokenizer.vocabularySize }, (_, id) => id);
  const isOfUse = (id: number): boolean => (model.getTokenAttributes(id) & (1 | 8)) === 0;
  assert.deepEqual(
    ids.filter((id) => tokenizer.isEndOfGeneration(id)),
    ids.filter((id) => model.isEogToken(id)),
  );
  assert.deepEqual(
    ids.filter((id) => tokenizer.tokenBytes(id).length > 0),
    ids.filter((id) => isOfUse(id) && (model.getTokenAttributes(id) & (4 | 16 | 32)) !== 0),
  );
}
