/**
 * Control tokens whose texts belong to an answer: they say where thoughts and calls of functions begin and end. Of all
 * others an answer has nothing, in every engine alike.
 */
export const answerMarks: ReadonlySet<string> = new Set([
  "<think>",
  "</think>",
  "<tool_call>",
  "</tool_call>",
  "[TOOL_CALLS]",
  "[CALL_ID]",
  "[ARGS]",
  "<|python_tag|>",
]);
