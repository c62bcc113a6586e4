import { flagAlpha } from "../../audit/evidence.ts";
import type { AuditListView, AuditView, ProviderView, ReputationView } from "../../protocol/gateway-api.ts";
import { parseDocument } from "../../receipt/document.ts";
import { SkeinError } from "../../util/errors.ts";
import type { App, AskerOf } from "../http/app.ts";
import type { Directory } from "../directory/directory.ts";
import { parseBody } from "../requests/parse-body.ts";
import { providerView } from "../answers/views.ts";
import type { BeaconBoard } from "./beacon-board.ts";
import type { Audits } from "./index.ts";
import type { Reputations } from "./reputations.ts";

/** Audits in one answer. */
const listMax = 100;
const listDefault = 20;
/** With a provider's reputation. */
const latestMax = 5;

interface Deps {
  readonly directory: Directory;
  readonly audits: Audits | null;
  readonly reputations: Reputations | null;
  readonly beacons: BeaconBoard;
}

export function mountAudits(app: App, deps: Deps, asker: AskerOf): void {
  const { directory, reputations, beacons } = deps;
  app.get("/skein/v1/providers/:id", async (c) => {
    const entry = directory.entryOf(c.req.param("id"));
    const id = c.req.param("id").slice(0, 100);
    if (entry === undefined) {
      throw new SkeinError("not_found", `The provider '${id}' has not joined.`, {
        hint: "`skein providers` lists those that have.",
      });
    }
    const view = providerView(entry, directory.policy);
    if (reputations === null || deps.audits === null) return c.json(view);
    const audits = await deps.audits.log.latest(latestMax, view.id);
    return c.json({
      ...view,
      reputation: {
        ...reputationView(reputations, view.id, audits),
        evidence: evidenceViews(deps.audits, view.id),
      },
    } satisfies ProviderView);
  });
  app.get("/skein/v1/audits", async (c) => {
    const limit = Math.min(listMax, Math.max(1, Number(c.req.query("limit") ?? listDefault) || listDefault));
    const data = await auditsOf(deps).log.latest(limit, c.req.query("provider") ?? null);
    const { lengths, wakefulness } = auditsOf(deps);
    const { found, passed, isAsleep } = wakefulness.counts;
    const checker = { asleep: isAsleep, faults_found: found, faults_passed: passed };
    return c.json({ object: "list", data, ...lengths, checker } satisfies AuditListView);
  });
  app.get("/skein/v1/audits/:receipt", async (c) => {
    const hash = c.req.param("receipt");
    const isHash = /^[0-9a-f]{4,64}$/.test(hash);
    const found = isHash ? await auditsOf(deps).log.find(hash, asker(c).owner) : null;
    if (found !== null) return c.json(found);
    throw new SkeinError(
      "not_found",
      `There is no audit of the receipt '${hash.slice(0, 64)}', or several.`,
      {
        hint: "Give the hash of a receipt, or its beginning; `skein audit list` shows the latest.",
      },
    );
  });
  app.post("/skein/v1/audits", async (c) => {
    const document = parseDocument(await parseBody(c.req.raw));
    const data = await auditsOf(deps).audit(asker(c).owner, document, c.req.raw.signal);
    return c.json({ object: "list", data });
  });
  app.get("/skein/v1/beacons", (c) => c.json({ object: "list", data: beacons.rounds }));
}

/** @throws SkeinError `not_found` */
function auditsOf({ audits }: Deps): Audits {
  if (audits !== null) return audits;
  throw new SkeinError("not_found", "This gateway does not audit.");
}

function evidenceViews(audits: Audits, providerId: string): ReputationView["evidence"] {
  return audits.evidenceOf(providerId).map(({ modelId, evidence }) => ({
    model_id: modelId,
    tokens: evidence.tokens,
    log_evidence: rounded(evidence.logMost),
    flagged_at: rounded(-Math.log(flagAlpha)),
  }));
}

function reputationView(
  reputations: Reputations,
  providerId: string,
  audits: AuditView[],
): Omit<ReputationView, "evidence"> {
  const { trust, standing, audit, factors } = reputations.standing(providerId);
  return {
    trust: rounded(trust),
    standing,
    audit: { probability: rounded(audit.probability), reason: audit.reason },
    factors: factors.map(({ name, value, from }) => ({
      name,
      value: rounded(value),
      from: Object.fromEntries(Object.entries(from).map(([key, count]) => [key, rounded(count)])),
    })),
    excluded: reputations.exclusionsOf(providerId).map(({ modelId, reason, receipt, untilMs }) => ({
      model_id: modelId,
      reason,
      receipt,
      until: Math.floor(untilMs / 1000),
    })),
    audits,
  };
}

function rounded(value: number): number {
  return Math.round(value * 1e4) / 1e4;
}
