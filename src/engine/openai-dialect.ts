/** How one upstream wants a completion asked: what OpenAI once defined is not what every model takes today. */
import { openaiMessage, openaiTool } from "./openai-tools.ts";
import type { GenerateRequest } from "../protocol/generate.ts";

export interface Asked {
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** What an upstream says about a request that it refuses. */
export interface Refusal {
  readonly message: string;
  readonly code: string | null;
  readonly param: string | null;
}

/** How a server is asked to go on with a part of an answer: the assistant's message stands last, or that and its flags. */
export type Continuation = "assistant_last" | "continue_final_message";

/** Values that ask for nothing special: instead of them the parameter may be left out. */
const neutral: Readonly<Record<string, number>> = { temperature: 1, top_p: 1 };

/** Servers take an assistant's words without them. */
function withoutThoughts(text: string): string {
  return text.replace(/^<think>.*?<\/think>\s*/s, "");
}

export class Dialect {
  /** Parameters that this upstream has refused. */
  readonly #avoided = new Set<string>();
  continuation: Continuation = "assistant_last";

  /** Parameters that most servers know only under extra names are sent only when they ask for something. */
  ask(
    model: string,
    { prompt, emitted, sampling, stop, constraint, outputTokensMax }: GenerateRequest,
  ): Asked {
    const limitName = this.#avoided.has("max_tokens") ? "max_completion_tokens" : "max_tokens";
    const common = {
      model,
      stream: true,
      stream_options: { include_usage: true },
      ...this.#unlessAvoided("temperature", sampling.temperature),
      ...this.#unlessAvoided("top_p", sampling.topP),
      seed: sampling.seed,
      ...(sampling.topK > 0 ? { top_k: sampling.topK } : {}),
      ...(sampling.minP > 0 ? { min_p: sampling.minP } : {}),
      ...(sampling.presencePenalty !== 0 ? { presence_penalty: sampling.presencePenalty } : {}),
      ...(sampling.frequencyPenalty !== 0 ? { frequency_penalty: sampling.frequencyPenalty } : {}),
      ...(sampling.logitBias.length > 0 ? { logit_bias: Object.fromEntries(sampling.logitBias) } : {}),
      ...(stop.length > 0 ? { stop } : {}),
      ...(constraint?.responseFormat == null
        ? {}
        : { response_format: JSON.parse(constraint.responseFormat) as unknown }),
      ...(outputTokensMax === null ? {} : { [limitName]: outputTokensMax }),
    };
    if (prompt.kind === "chat") {
      const before = prompt.messages.map(openaiMessage);
      const tools = prompt.tools === undefined ? {} : { tools: prompt.tools.map(openaiTool) };
      const choice = JSON.parse(constraint?.toolChoice ?? "{}") as object;
      if (emitted.text === "")
        return { path: "/chat/completions", body: { ...common, ...tools, ...choice, messages: before } };
      const messages = [...before, { role: "assistant", content: withoutThoughts(emitted.text) }];
      // As vLLM and SGLang call it.
      const flags =
        this.continuation === "continue_final_message"
          ? { continue_final_message: true, add_generation_prompt: false }
          : {};
      return { path: "/chat/completions", body: { ...common, ...flags, messages } };
    }
    return {
      path: "/completions",
      body:
        prompt.kind === "tokens"
          ? { ...common, prompt: prompt.tokenIds }
          : {
              ...common,
              prompt: prompt.text + emitted.text,
              ...(prompt.suffix === undefined ? {} : { suffix: prompt.suffix }),
            },
    };
  }

  /** Remembers what a refusal teaches; true when the same request can now be asked in another way. */
  learn({ message, code, param }: Refusal, { body }: Asked): boolean {
    if (code !== "unsupported_parameter" && !/unsupported parameter/i.test(message)) return false;
    const name = param ?? /['"`](\w+)['"`]/.exec(message)?.[1] ?? "";
    // What is avoided is not in the next body: each parameter is learned at most once per request.
    if (!Object.hasOwn(body, name)) return false;
    if (name !== "max_tokens" && neutral[name] !== body[name]) return false;
    this.#avoided.add(name);
    return true;
  }

  #unlessAvoided(name: string, value: number): Record<string, number> {
    return this.#avoided.has(name) && value === neutral[name] ? {} : { [name]: value };
  }
}
