import assert from "node:assert/strict";
import { test } from "node:test";
import { createPace, createStatusLine, statusText } from "./status-line.ts";

/** What a terminal shows after everything was written: carriage return and "clear to the end" are enough. */
function terminal(columns: number) {
  const lines: string[] = [""];
  let column = 0;
  return {
    isTTY: true,
    columns,
    lines,
    write(text: string) {
      for (const part of text.replaceAll("\u001b[K", "␛").split(/(\r|\n|␛)/)) {
        if (part === "\r") column = 0;
        else if (part === "\n") {
          lines.push("");
          column = 0;
        } else if (part === "␛") lines[lines.length - 1] = lines.at(-1)!.slice(0, column);
        else {
          const old = lines.at(-1)!;
          lines[lines.length - 1] = old.slice(0, column) + part + old.slice(column + part.length);
          column += part.length;
        }
      }
    },
  };
}

test("the line is written over, other lines stay above it, and it goes in the end", () => {
  const screen = terminal(40);
  const line = createStatusLine(screen);
  line.above(() => screen.write("offering\n"));
  line.show("1 gateway, a longer text");
  line.show("2 gateways");
  assert.deepEqual(screen.lines, ["offering", "2 gateways"]);
  line.above(() => screen.write("joined\n"));
  assert.deepEqual(screen.lines, ["offering", "joined", "2 gateways"]);
  line.end();
  line.show("more");
  assert.deepEqual(screen.lines, ["offering", "joined", ""]);
});

test("a narrow terminal gets a cut line, because a wrapped one could not be written over", () => {
  const screen = terminal(10);
  createStatusLine(screen).show("0123456789ABCDEF");
  assert.deepEqual(screen.lines, ["01234567…"]);
});

test("without a terminal nothing but the other lines is written", () => {
  const written: string[] = [];
  const screen = { write: (text: string) => written.push(text) };
  const line = createStatusLine(screen);
  line.show("1 gateway");
  line.above(() => screen.write("joined\n"));
  line.end();
  assert.deepEqual(written, ["joined\n"]);
});

test("the pace is that of the last seconds", () => {
  const pace = createPace();
  assert.equal(pace(0, 0), 0);
  assert.equal(pace(1000, 50), 50);
  for (let second = 2; second <= 20; second++) pace(second * 1000, second * 50);
  assert.equal(pace(21_000, 1000), 40, "four of the last five seconds had tokens");
  for (let second = 22; second <= 30; second++) pace(second * 1000, 1000);
  assert.equal(pace(31_000, 1000), 0);
});

test("the text says what happens", () => {
  const activity = { gateways: 1, active: 2, completed: 7, failed: 0, tokens: 900 };
  assert.equal(
    statusText(activity, 41.4, 125_000),
    "1 gateway · 7 answered · 2 running · 41 tokens/s · up 2 min 5 s",
  );
  assert.equal(
    statusText({ ...activity, gateways: 3, failed: 1 }, 0, 90_061_000),
    "3 gateways · 7 answered · 1 failed · 2 running · 0.0 tokens/s · up 1 d 1 h",
  );
  assert.match(statusText(activity, 0, 0), /up 0 s$/);
});
