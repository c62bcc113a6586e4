/** What model names mean at this gateway: the operator's aliases, and which API key may use which model. */
import { SkeinError } from "../../util/errors.ts";
import type { RoutingHints, TrustWish } from "../../router/hints.ts";
import type { Directory } from "../directory/directory.ts";
import { ownerOfKey } from "../http/security.ts";

export interface ModelAccessOptions {
  /** Names that clients use, such as `gpt-4o-mini`, and what of the network they stand for. */
  readonly aliases?: Readonly<Record<string, string>>;
  /** By API key: the names (or aliases) that it may use; keys that are not there may use all. */
  readonly keyModels?: Readonly<Record<string, readonly string[]>>;
  /** How answers can be trusted where a request does not say it; null: as it comes. */
  readonly trust?: TrustWish | null;
  /** By API key. */
  readonly keyTrust?: Readonly<Record<string, TrustWish>>;
}

export class ModelAccess {
  readonly aliases: ReadonlyMap<string, string>;
  readonly #allowed: ReadonlyMap<string, ReadonlySet<string>>;
  readonly #directory: Directory;

  readonly #trust: TrustWish | null;
  readonly #keyTrust: ReadonlyMap<string, TrustWish>;

  constructor(directory: Directory, options: ModelAccessOptions) {
    const { aliases = {}, keyModels = {}, trust = null, keyTrust = {} } = options;
    this.#directory = directory;
    this.#trust = trust;
    this.#keyTrust = new Map(Object.entries(keyTrust).map(([key, wish]) => [ownerOfKey(key), wish]));
    this.aliases = new Map(Object.entries(aliases));
    this.#allowed = new Map(
      Object.entries(keyModels).map(([key, names]) => [ownerOfKey(key), new Set(names)]),
    );
  }

  /**
   * The model that a name stands for. What somebody serves under the very name of an alias does not count: the operator's word does.
   *
   * @throws SkeinError `not_authorized` when the API key may not use it
   */
  resolve(owner: string, name: string): string {
    const target = this.aliases.get(name) ?? name;
    if (this.mayUse(owner, name)) return target;
    const names = [...this.#allowed.get(owner)!].slice(0, 10).join(", ");
    throw new SkeinError("not_authorized", `This API key may not use the model '${name.slice(0, 100)}'.`, {
      param: "model",
      hint: `It may use: ${names === "" ? "none" : names}.`,
    });
  }

  /** With the trust that the operator set for the API key, where the request asks for none. */
  hintsFor(owner: string, hints: RoutingHints): RoutingHints {
    const trust = hints.trust ?? this.#keyTrust.get(owner) ?? this.#trust;
    return trust === hints.trust ? hints : { ...hints, trust };
  }

  mayUse(owner: string, name: string): boolean {
    const allowed = this.#allowed.get(owner);
    if (allowed === undefined || allowed.has(name)) return true;
    const target = this.aliases.get(name) ?? name;
    if (allowed.has(target)) return true;
    // An identity, or a name with a hash: allowed when all that it may mean is.
    const names = this.#directory.offersOf(target).map(({ offer }) => offer.name);
    return names.length > 0 && names.every((offered) => allowed.has(offered));
  }
}
