/** /v1/responses: its endpoints. */
import type { Context } from "hono";
import { SkeinError } from "../../util/errors.ts";
import { type App, type AskerOf, wrongMethod } from "../http/app.ts";
import type { CompleteDeps } from "../answers/complete.ts";
import { parseBody } from "../requests/parse-body.ts";
import { countTokens } from "../requests/quote.ts";
import { pageOf, parseListQuery } from "../kept/records.ts";
import type { InputItem } from "./input.ts";
import type { Responses } from "./responses.ts";

/** As OpenAI has it. */
const listed = { limitDefault: 20, limitMax: 100 };
const path = "/v1/responses";

export function mountResponses(app: App, deps: CompleteDeps, responses: Responses, askerOf: AskerOf): void {
  const id = (c: Context): string => c.req.param("id")!;
  app.post(path, async (c) => responses.create(c.req.raw, await parseBody(c.req.raw), askerOf(c)));
  app.post(`${path}/input_tokens`, async (c) => {
    const request = await responses.inputOf(await parseBody(c.req.raw), askerOf(c));
    const tokens = await countTokens(deps, request, c.req.raw.signal);
    return c.json({ object: "response.input_tokens", input_tokens: tokens });
  });
  app.get(`${path}/:id`, async (c) => {
    if (c.req.query("stream") === "true") {
      throw new SkeinError("unsupported_parameter", "'stream' of a kept response is not supported yet.", {
        param: "stream",
      });
    }
    return c.json((await responses.get(askerOf(c).owner, id(c))).response);
  });
  app.delete(`${path}/:id`, async (c) => {
    await responses.delete(askerOf(c).owner, id(c));
    return c.json({ id: id(c), object: "response", deleted: true });
  });
  app.post(`${path}/:id/cancel`, async (c) => c.json(await responses.cancel(askerOf(c).owner, id(c))));
  app.get(`${path}/:id/input_items`, async (c) => {
    const { inputItems, response } = await responses.get(askerOf(c).owner, id(c));
    const { limit, order, after } = parseListQuery(c.req.query(), listed);
    const all = inputItems.map((item, i) => listedItem(item, `${response.id.replace("resp_", "msg_")}_${i}`));
    if (order === "desc") all.reverse();
    const from = after === null ? 0 : all.findIndex((item) => item.id === after) + 1;
    if (after !== null && from === 0) {
      throw new SkeinError("invalid_request", "'after' must be the id of an item.", { param: "after" });
    }
    return c.json(pageOf(all.slice(from, from + limit), from + limit < all.length));
  });
  for (const [known, methods] of [
    ["", "POST"],
    ["/input_tokens", "POST"],
    ["/:id", "GET, DELETE"],
    ["/:id/cancel", "POST"],
    ["/:id/input_items", "GET"],
  ]) {
    app.all(path + known!, (c) => wrongMethod(c, methods!));
  }
}

function listedItem(item: InputItem, id: string) {
  const { type, role, content } = item;
  const status = "completed" as const;
  if ((type ?? "message") !== "message") return { ...item, id, status };
  return {
    id,
    type: "message" as const,
    status,
    role,
    content: typeof content === "string" ? [{ type: "input_text", text: content }] : content,
  };
}
