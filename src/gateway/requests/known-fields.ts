/** Fields of each surface's requests (docs/API.md, "Parameters"). What is none of them may ask for something: it is refused. */
import { SkeinError } from "../../util/errors.ts";

type Surface = "chat" | "completions" | "responses" | "messages" | "embeddings";

const fields: Readonly<Record<Surface, string>> = {
  chat: `
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
    messages metadata min_p modalities model moderation n parallel_tool_calls prediction
    presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort
    response_format safety_identifier seed service_tier skein stop store stream stream_options
    temperature tool_choice tools top_k top_logprobs top_p user verbosity web_search_options
  `,
  completions: `
    best_of echo frequency_penalty logit_bias logprobs max_tokens min_p model n presence_penalty prompt
    response_format seed service_tier skein stop stream stream_options suffix temperature top_k top_p
    user
  `,
  responses: `
    access_programs background context_management conversation image include input instructions
    max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id
    prompt prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier seed
    service_tier skein store stream stream_options temperature text tool_choice tools top_logprobs top_p
    truncation user
  `,
  messages: `
    cache_control container context_management diagnostics inference_geo max_tokens messages metadata
    model output_config service_tier skein speed stop_sequences stream system temperature thinking
    tool_choice tools top_k top_p user_profile_id workspace_id
  `,
  embeddings: `
    dimensions encoding_format input model skein user
  `,
};

const known = new Map(
  Object.entries(fields).map(([surface, names]) => [surface, new Set(names.match(/\w+/g))]),
);

/** @throws SkeinError `unsupported_parameter` naming the first field that is none */
export function refuseUnknown(surface: Surface, body: object): void {
  const names = known.get(surface)!;
  const unknown = Object.entries(body).find(([name, value]) => value != null && !names.has(name));
  if (unknown === undefined) return;
  const [name] = unknown;
  throw new SkeinError("unsupported_parameter", `'${name.slice(0, 100)}' is no parameter of this endpoint.`, {
    param: name.slice(0, 100),
    hint: "Leave it out; docs/API.md lists all. Skein's own parameters are fields of 'skein'.",
  });
}
