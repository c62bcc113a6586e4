/** OpenAI's endpoints that no provider of the network has an engine for. */
import { SkeinError } from "../../util/errors.ts";
import type { App } from "./app.ts";

const unoffered: Readonly<Record<string, string>> = {
  images: "images",
  audio: "speech",
  videos: "videos",
  moderations: "moderation",
  fine_tuning: "fine-tuning",
  realtime: "realtime sessions",
  assistants: "assistants",
  threads: "assistants' threads",
  vector_stores: "vector stores",
  conversations: "conversations",
  containers: "containers",
  evals: "evaluations",
  chatkit: "chat kits",
};

/** 404 and not 501: clients try a 5xx again. */
export function mountUnoffered(app: App): void {
  for (const [path, what] of Object.entries(unoffered)) {
    for (const pattern of [`/v1/${path}`, `/v1/${path}/*`]) {
      app.all(pattern, (c) => {
        throw new SkeinError(
          "unsupported_endpoint",
          `No provider of this network offers ${what} (${c.req.path.slice(0, 200)}).`,
          {
            hint: "docs/API.md lists what is served.",
          },
        );
      });
    }
  }
}
