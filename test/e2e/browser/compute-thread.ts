/** A thread of a team: says that it runs, and then does its share until it is ended. */
import { joinTeam, type TeamMember } from "../../../src/exact/wasm/team.ts";

addEventListener("message", ({ data }: MessageEvent<TeamMember>) => joinTeam(data));
postMessage("ready");
