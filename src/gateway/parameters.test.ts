/**
 * The table of parameters in docs/API.md against what the gateway does, and against the official clients' types: a field that
 * they know and the table does not, or that is treated otherwise, fails here.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { type TestGateway, testGateway } from "./fixture.suite.ts";

/** Served: looked at, and a wrong value named. Refused: whatever asks for something. Ignored: it asks nothing of an answer. */
const marks: Readonly<Record<string, "served" | "refused" | "ignored">> = {
  yes: "served",
  no: "refused",
  "·": "ignored",
};

interface Column {
  readonly title: string;
  readonly path: string;
  readonly valid: Readonly<Record<string, unknown>>;
  /** Where the official client declares what may be sent. */
  readonly declared: readonly [file: string, name: string];
}

const model = "naive";
const messages = [{ role: "user", content: "a" }];
const columns: readonly Column[] = [
  {
    title: "chat",
    path: "/v1/chat/completions",
    valid: { model, messages },
    declared: ["openai/resources/chat/completions/completions.d.ts", "ChatCompletionCreateParamsBase"],
  },
  {
    title: "completions",
    path: "/v1/completions",
    valid: { model, prompt: "a" },
    declared: ["openai/resources/completions.d.ts", "CompletionCreateParamsBase"],
  },
  {
    title: "responses",
    path: "/v1/responses",
    valid: { model, input: "a" },
    declared: ["openai/resources/responses/responses.d.ts", "ResponseCreateParamsBase"],
  },
  {
    title: "messages",
    path: "/v1/messages",
    valid: { model, messages, max_tokens: 5 },
    declared: ["@anthropic-ai/sdk/resources/messages/messages.d.ts", "MessageCreateParamsBase"],
  },
  {
    title: "embeddings",
    path: "/v1/embeddings",
    valid: { model, input: "a" },
    declared: ["openai/resources/embeddings.d.ts", "EmbeddingCreateParams"],
  },
];
const engines = ["llama", "exact", "openai"];

/** None of them asks for what a field can be asked for. */
const junk: readonly unknown[] = [{ z: 1 }, -1e9, "\0junk", [[{}]], true, [1]];

/** Cells of the table, by parameter, then by column. */
function readTable(): Map<string, Map<string, string>> {
  const text = readFileSync(new URL("../../docs/API.md", import.meta.url), "utf8");
  const lines = text.slice(text.indexOf("### Parameters")).split("\n");
  const start = lines.findIndex((line) => line.startsWith("| parameter"));
  const cellsOf = (line: string): string[] =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
  const titles = cellsOf(lines[start]!);
  assert.deepEqual(titles.slice(1), [...columns.map(({ title }) => title), ...engines]);
  const table = new Map<string, Map<string, string>>();
  for (const line of lines.slice(start + 2)) {
    if (!line.startsWith("|")) break;
    const cells = cellsOf(line);
    assert.equal(cells.length, titles.length, line);
    for (const [name] of cells[0]!.matchAll(/(?<=`)\w+(?=`)/g)) {
      assert.ok(!table.has(name), `${name} stands there twice`);
      table.set(name, new Map(titles.map((title, i) => [title, cells[i]!])));
    }
  }
  return table;
}

function declaredFields([file, name]: Column["declared"]): string[] {
  const text = readFileSync(new URL(`../../node_modules/${file}`, import.meta.url), "utf8");
  const from = text.slice(text.indexOf(`export interface ${name} {`));
  const fields = [...from.slice(0, from.indexOf("\n}")).matchAll(/^ {4}([a-z_]+)\??:/gm)].map(
    ([, field]) => field!,
  );
  assert.ok(fields.length > 3, `${name} was not found in ${file}`);
  return fields;
}

let own: TestGateway;
before(async () => {
  own = testGateway();
  await own.add("p1", { answerTokens: 2 });
});
after(() => own.gateway.close());

async function treatment({ path, valid }: Column, name: string, values: readonly unknown[]): Promise<string> {
  const codes = new Set<string>();
  for (const value of values) {
    const response = await own.post(path, { ...valid, [name]: value });
    const text = await response.text();
    if (response.status === 200) continue;
    const { error } = JSON.parse(text) as { error: { code: string; param: string | null } };
    assert.equal(error.param?.split(".")[0], name, `${path} ${name}: ${text}`);
    codes.add(error.code);
  }
  if (codes.has("invalid_request")) return "served";
  return codes.has("unsupported_parameter") ? "refused" : "ignored";
}

test("every parameter is treated as docs/API.md says", async () => {
  const table = readTable();
  for (const column of columns) {
    for (const [name, cells] of table) {
      const cell = cells.get(column.title)!;
      const expected = cell === "" ? "refused" : marks[cell];
      assert.ok(expected !== undefined, `${name}, ${column.title}: '${cell}' is no mark`);
      // Where it is no parameter one look will do.
      const values = cell === "" ? junk.slice(0, 1) : junk;
      assert.equal(await treatment(column, name, values), expected, `${name} at ${column.path}`);
    }
  }
});

test("docs/API.md has every parameter that the official clients know", () => {
  const table = readTable();
  for (const { title, declared } of columns) {
    const missing = declaredFields(declared).filter((name) => (table.get(name)?.get(title) ?? "") === "");
    assert.deepEqual(missing, [], `${title}: missing in the table`);
  }
});

test("docs/API.md lists every endpoint", () => {
  const text = readFileSync(new URL("../../docs/API.md", import.meta.url), "utf8");
  const missing = own.gateway.endpoints
    .map(({ path }) => path.replace(/\{.*\}/, "").replaceAll(/:(\w+)/g, "{$1}"))
    .filter((path) => {
      // Beside its neighbours only the end of a path stands there.
      const end = path.slice(path.indexOf("{") === -1 ? 0 : path.indexOf("}") + 1);
      return (
        !text.includes(path) &&
        !(end !== path && text.includes(`…/{id}${end}`)) &&
        !text.includes(`…${end}\``)
      );
    });
  assert.deepEqual(missing, []);
});
