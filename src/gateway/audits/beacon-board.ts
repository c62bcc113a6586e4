/** Shows what a gateway without others commits to before answers are given, and what it reveals afterwards: anybody can follow its beacon. */
import type { BeaconChannel } from "../../audit/beacon.ts";
import { toHex } from "../../util/bytes.ts";

/** Rounds that are shown. */
const roundsMax = 360;

interface ShownRound {
  readonly round: number;
  readonly commitment: string;
  secret: string | null;
}

export class BeaconBoard implements BeaconChannel {
  readonly #rounds = new Map<number, ShownRound>();

  /** The newest first. */
  get rounds(): readonly ShownRound[] {
    return [...this.#rounds.values()].toReversed();
  }

  send: BeaconChannel["send"] = (message) => {
    if (message.type === "reveal") {
      const shown = this.#rounds.get(message.round);
      if (shown !== undefined) shown.secret = toHex(message.secret);
      return;
    }
    const commitment = toHex(message.commitment);
    this.#rounds.set(message.round, { round: message.round, commitment, secret: null });
    if (this.#rounds.size > roundsMax) this.#rounds.delete(this.#rounds.keys().next().value!);
  };

  onMessage: BeaconChannel["onMessage"] = () => () => undefined;
}
