/** A checkpoint: what the provider signs on the way, so that an answer that loses its provider is bound to what was delivered. */
import type { Sha256 } from "../exact/commitment/commitment.ts";
import { publicKeyOf } from "../protocol/provider-id.ts";
import { type Signer, verifySignature } from "../protocol/signing.ts";
import { digestOf, domainWord, hashWord, numberWord } from "./words.ts";

/** Answer tokens between two checkpoints. */
export const checkpointTokens = 32;

export interface Checkpoint {
  readonly requestHash: Uint8Array;
  readonly providerId: string;
  /** Tokens of the answer so far, those of earlier attempts included. */
  readonly position: number;
  /** Positions that were read, those of the prompt included. */
  readonly positions: number;
  /** The chain's head behind the last of them. */
  readonly chain: Uint8Array;
}

export interface SignedCheckpoint {
  readonly checkpoint: Checkpoint;
  readonly signature: Uint8Array;
}

const domain = domainWord("skein-checkpoint-v1");

export function checkpointDigest(sha256: Sha256, checkpoint: Checkpoint): Uint8Array {
  return digestOf(sha256, checkpointWords(checkpoint));
}

export function checkpointWords(checkpoint: Checkpoint): Uint8Array[] {
  return [
    domain,
    hashWord(checkpoint.requestHash),
    publicKeyOf(checkpoint.providerId),
    numberWord(checkpoint.position),
    numberWord(checkpoint.positions),
    hashWord(checkpoint.chain),
  ];
}

export async function signCheckpoint(
  sha256: Sha256,
  signer: Signer,
  checkpoint: Checkpoint,
): Promise<SignedCheckpoint> {
  return { checkpoint, signature: await signer.sign(new Uint8Array(checkpointDigest(sha256, checkpoint))) };
}

export function isSignedCheckpoint(sha256: Sha256, signed: SignedCheckpoint): Promise<boolean> {
  const { checkpoint, signature } = signed;
  return verifySignature(
    checkpoint.providerId,
    new Uint8Array(checkpointDigest(sha256, checkpoint)),
    signature,
  );
}
