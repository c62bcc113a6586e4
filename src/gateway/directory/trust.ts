import type { Seen } from "./uptime.ts";

/** What is known of providers from answers and audits; without it, all are alike. */
export interface Trust {
  /** For the router, 0 to 1; 0.5 where nothing is known. */
  routing(providerId: string): number;
  isExcluded(providerId: string, modelId: string): boolean;
  /** @param paceShare delivered by promised pace, at most 1 */
  completed(providerId: string, paceShare: number): void;
  /** Time in which it was there, and in which it should have been. */
  observed(providerId: string, seen: Seen): void;
  aborted(providerId: string): void;
}
