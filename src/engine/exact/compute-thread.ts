/** One of the threads that share the work of a model: waits for steps in shared memory until it is terminated. */
import { workerData } from "node:worker_threads";
import { joinTeam, type TeamMember } from "../../exact/wasm/team.ts";

joinTeam(workerData as TeamMember);
