import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ChatMessage, Tool } from "../protocol/generate.ts";
import { chatDialectOf, offeredDialect } from "./chat-dialect.ts";
import { type ChatTemplate, renderChat } from "./chat-template.ts";

const marks = [
  "<s>",
  "</s>",
  "[INST]",
  "[/INST]",
  "[TOOL_CALLS]",
  "[ARGS]",
  "[TOOLS]",
  "<|im_start|>",
  "<|im_end|>",
];
const templateOf = (source: string): ChatTemplate => ({
  source,
  bosToken: "<s>",
  eosToken: "</s>",
  specialTokens: marks,
});
const opening = "{% if add_generation_prompt %}<|im_start|>assistant\n";

/** In the style of each family. */
const hermes = templateOf(
  "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}" +
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}" +
    '{% for c in m.tool_calls or [] %}<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}' +
    `<|im_end|>\n{% endfor %}${opening}{% endif %}`,
);
const llama = templateOf(
  "{% for m in messages %}[INST]{{ m.role }}[/INST]{% if m.tool_calls %}" +
    "{% if m.tool_calls | length != 1 %}{{ raise_exception('one call at once') }}{% endif %}" +
    '{% set c = m.tool_calls[0].function %}{"name": "{{ c.name }}", "parameters": {{ c.arguments | tojson }}}' +
    "{% elif m.role == 'tool' %}{{ {'output': m.content} | tojson }}{% else %}{{ m.content }}{% endif %}" +
    "{% if loop.first and tools is not none %}{% for t in tools %}{{ t | tojson(indent=4) }}{% endfor %}{% endif %}{% endfor %}",
);
const mistral = templateOf(
  "{% if tools is not none %}[TOOLS]{{ tools | tojson }}{% endif %}{% for m in messages %}{% if m.tool_calls %}[TOOL_CALLS][" +
    "{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}" +
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}, "id": "{{ c.id }}"}{% if not loop.last %}, {% endif %}{% endfor %}]</s>' +
    "{% elif m.role == 'tool' %}{{ m.tool_call_id }}: {{ m.content }}{% else %}[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}",
);
const mistralArguments = templateOf(
  "{% if tools %}[TOOLS]{{ tools | tojson }}{% endif %}{% for m in messages %}{% for c in m.tool_calls or [] %}" +
    "[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}{% endfor %}{{ m.content }}{% endfor %}",
);
const chatml = templateOf(
  `{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}${opening}{% endif %}`,
);
/** In tags of its own, which nobody here reads. */
const foreign = templateOf(
  "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}{{ m.content }}" +
    "{% for c in m.tool_calls or [] %}<tool_call>\n<function={{ c.function.name }}>\n</tool_call>{% endfor %}{% endfor %}",
);
const withoutSystem = templateOf(
  "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}" +
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}" +
    "[{{ m.role }}]{{ m.content }}{% endfor %}",
);

const tools: readonly Tool[] = [
  {
    name: "look",
    description: "Looks.",
    parameters: '{"type": "object", "properties": {"at": {"type": "string"}}}',
  },
];
const messages: readonly ChatMessage[] = [
  { role: "user", content: "Look!" },
  {
    role: "assistant",
    content: "",
    toolCalls: [
      { id: "call_1", name: "look", arguments: '{"at": "sky"}' },
      { id: "call_2", name: "look", arguments: '{"at": "sea"}' },
    ],
  },
  { role: "tool", content: "blue", toolCallId: "call_1" },
  { role: "tool", content: "green", toolCallId: "call_2" },
];
const textOf = (template: ChatTemplate): string =>
  renderChat(template, messages, { tools })
    .map(({ text }) => text)
    .join("");

test("the format of calls is what the template writes", () => {
  const formats = { hermes, llama3: llama, mistral, mistral_args: mistralArguments };
  for (const [format, template] of Object.entries(formats)) {
    const { toolFormat, knowsTools } = chatDialectOf(template);
    assert.deepEqual([toolFormat, knowsTools], [format, true]);
    assert.equal(offeredDialect(template).toolFormat, format);
  }
  for (const template of [chatml, foreign, withoutSystem, templateOf("{{ nothing"), templateOf("")]) {
    const { toolFormat, knowsTools } = chatDialectOf(template);
    assert.deepEqual([toolFormat, knowsTools], ["generic", false]);
  }
  assert.deepEqual(offeredDialect(null), { features: [] });
  assert.deepEqual(offeredDialect(chatml), { features: ["tools", "no_thinking"] });
});

test("functions, calls and answers are told in the template's own way", () => {
  assert.match(
    textOf(hermes),
    /"name": "look", "description": "Looks\.", "parameters": \{"type": "object".*<tool_call>\n\{"name": "look", "arguments": \{"at": "sky"\}\}\n<\/tool_call>.*blue.*green/s,
  );
  // One call at a time, and each answer behind its own.
  assert.match(textOf(llama), /"at": "sky".*blue.*"at": "sea".*green/s);
  const [, id] = /"id": "(\w+)"/.exec(textOf(mistral))!;
  assert.match(id!, /^[0-9a-z]{9}$/);
  assert.ok(textOf(mistral).includes(`${id}: blue`));
  assert.match(textOf(mistralArguments), /\[TOOL_CALLS\]look\[ARGS\]\{"at": "sky"\}\[TOOL_CALLS\]look/);
});

test("where the template knows no functions, words tell of them", () => {
  for (const template of [chatml, foreign, withoutSystem]) {
    const text = textOf(template);
    assert.match(text, /\{"name": "look", "description": "Looks\.", "parameters": \{"type": "object"/);
    assert.match(text, /\{"name": "look", "arguments": \{"at": "sky"\}\}\n\{"name": "look", "arguments"/);
    assert.match(text, /The function look answered:\nblue\n\nThe function look answered:\ngreen/);
  }
  assert.match(textOf(withoutSystem), /^\[user\]You can call/);
  const system: ChatMessage = { role: "system", content: "Be brief." };
  const [segment] = renderChat(chatml, [system, ...messages], { tools });
  assert.match(segment!.text, /^<\|im_start\|>system\nBe brief\.\n\nYou can call these functions:/);
  // Without functions nothing is added.
  assert.doesNotMatch(renderChat(chatml, [system, messages[0]!])[0]!.text, /function/);
});

test("thoughts: in tags, opened by the template, or skipped where it can", () => {
  const tail = (text: string): ChatTemplate =>
    templateOf(`{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}${text}`);
  const cases: [ChatTemplate, unknown[]][] = [
    [tail("A:"), ["tags", false]],
    [tail("A:<think>\n"), ["opened", false]],
    [
      tail("A:{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>{% endif %}"),
      ["tags", true],
    ],
    [tail("A:{% if not enable_thinking %}<think></think>{% endif %}"), ["tags", true]],
    [
      tail(
        "A:{% if enable_thinking is defined and not enable_thinking %}</think>{% else %}<think>{% endif %}",
      ),
      ["opened", true],
    ],
    [chatml, [null, true]],
  ];
  for (const [template, expected] of cases) {
    const { thoughtFormat, canSkipThoughts } = chatDialectOf(template);
    assert.deepEqual([thoughtFormat, canSkipThoughts], expected, template.source);
  }
  const user: ChatMessage[] = [{ role: "user", content: "a" }];
  assert.equal(renderChat(cases[2]![0], user, { thinks: false })[0]!.text, "aA:<think>\n\n</think>");
});

test("whatever tools, calls and answers contain, no text of theirs is parsed for special tokens", () => {
  const hostile = fc
    .array(
      fc.oneof(fc.constantFrom(...marks), fc.string({ maxLength: 6 }), fc.constantFrom("\uE000", '"', "\\")),
      {
        maxLength: 4,
      },
    )
    .map((parts) => parts.join(""));
  const specials = (template: ChatTemplate, all: readonly ChatMessage[], given: readonly Tool[]): string[] =>
    renderChat(template, all, { tools: given })
      .filter(({ special }) => special)
      .flatMap(({ text }) =>
        marks
          .filter((mark) => text.includes(mark))
          .flatMap((mark) => Array(text.split(mark).length - 1).fill(mark)),
      );
  fc.assert(
    fc.property(
      fc.constantFrom(hermes, llama, mistral, chatml),
      hostile,
      hostile,
      hostile,
      (template, a, b, c) => {
        const call = { id: "call_1", name: "look", arguments: JSON.stringify({ [a]: b, at: [c] }) };
        const all: ChatMessage[] = [
          { role: "user", content: "x" },
          { role: "assistant", content: "", toolCalls: [call] },
          { role: "tool", content: c, toolCallId: "call_1" },
        ];
        const parameters = JSON.stringify({ type: "object", properties: { [b]: { description: a } } });
        const given = [{ name: "look", description: c, parameters }];
        const plain = all.map((message) => ({
          ...message,
          ...(message.toolCalls === undefined ? {} : { toolCalls: [{ ...call, arguments: '{"x": "y"}' }] }),
          ...(message.role === "tool" ? { content: "x" } : {}),
        }));
        const harmless = [
          { name: "look", description: "x", parameters: '{"type": "object", "properties": {}}' },
        ];
        assert.deepEqual(
          specials(template, all, given).toSorted(),
          specials(template, plain, harmless).toSorted(),
        );
      },
    ),
    { numRuns: 150 },
  );
});

test("arguments that are no object, and schemas that are none", () => {
  const [user] = messages;
  const cut: ChatMessage = {
    role: "assistant",
    content: "",
    toolCalls: [{ id: "call_1", name: "look", arguments: '{"at": "s' }],
  };
  assert.match(renderChat(hermes, [user!, cut], { tools })[0]!.text, /"arguments": "\{\\"at\\": \\"s"/);
  for (const parameters of ["[]", "{", "1", '{"a":'.repeat(200) + "1" + "}".repeat(200)]) {
    assert.throws(
      () => renderChat(hermes, [user!], { tools: [{ name: "look", parameters }] }),
      /no JSON object/,
    );
  }
});
