import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { AgreedText } from "./agreed-text.ts";

const said = (text: string) => ({ text, logprobs: null, offer: null });

test("told is what all have said so far, whatever the pieces; and in the end all of one", () => {
  const texts = fc.array(fc.string({ maxLength: 12 }), { minLength: 2, maxLength: 4 });
  fc.assert(
    fc.property(fc.string({ maxLength: 12 }), texts, fc.nat(), (prefix, rests, salt) => {
      const wholes = rests.map((rest) => prefix + rest);
      const agreed = new AgreedText(2);
      for (const replica of wholes.keys()) agreed.join(replica);
      let told = "";
      const heard = wholes.map(() => 0);
      for (let step = 0; heard.some((at, i) => at < wholes[i]!.length); step++) {
        const replica = (salt + step) % wholes.length;
        const until = Math.min(wholes[replica]!.length, heard[replica]! + 1 + ((salt + step) % 3));
        agreed.add(replica, said(wholes[replica]!.slice(heard[replica], until)));
        heard[replica] = until;
        told += agreed
          .take()
          .map(({ text }) => text)
          .join("");
        assert.ok(wholes.every((whole, i) => whole.slice(0, heard[i]).startsWith(told)));
      }
      const winner = salt % wholes.length;
      told += agreed
        .takeAll(winner)!
        .map(({ text }) => text)
        .join("");
      assert.equal(told, wholes[winner]);
    }),
  );
});

test("of too few nothing is told, and an answer that does not go on from what was told is none", () => {
  const agreed = new AgreedText(2);
  for (const replica of [0, 1]) agreed.join(replica);
  for (const replica of [0, 1]) agreed.add(replica, said("ab"));
  assert.deepEqual(agreed.take(), [said("ab")]);
  agreed.drop(1);
  agreed.add(0, said("c"));
  assert.deepEqual(agreed.take(), []);
  agreed.join(2);
  agreed.add(2, said("xb"));
  assert.equal(agreed.takeAll(2), null);
  assert.deepEqual(agreed.takeAll(0), [said("c")]);
});
