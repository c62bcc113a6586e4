/** What is known of providers from answers and audits; without it, all are alike. */
export interface Trust {
  /** For the router, 0 to 1; 0.5 where nothing is known. */
  routing(providerId: string): number;
  isExcluded(providerId: string, modelId: string): boolean;
  completed(providerId: string): void;
  aborted(providerId: string): void;
}

/** Where nothing is known. */
export const neutralTrust = 0.5;
