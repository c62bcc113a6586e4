/** Offers, identities and join proofs, with real keys. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { checkJoinProof, joinProof } from "../protocol/join-proof.ts";
import type { Offer } from "../protocol/offer.ts";
import { providerIdOf, publicKeyOf } from "../protocol/provider-id.ts";
import { clockSkewMaxMs, lifetimeMaxMs, openOffer, signOffer, signStatement } from "../protocol/signing.ts";
import { SkeinError } from "../util/errors.ts";
import { seededRandom } from "../util/random.ts";
import { createSigner } from "./identity.ts";

const nowMs = 1_800_000_000_000;
const signer = await createSigner(seededRandom(1).bytes(32));
const stranger = await createSigner(seededRandom(2).bytes(32));

function offerOf(values: Partial<Offer> = {}): Offer {
  return {
    providerId: signer.providerId,
    sequence: 1,
    issuedAtMs: nowMs,
    expiresAtMs: nowMs + 60_000,
    region: "eu-west",
    models: [
      {
        modelId: "gguf-sha256:00",
        name: "tiny",
        engine: "llama",
        trustTier: "float",
        contextTokensMax: 512,
        parallelMax: 4,
        resumable: true,
        forwardsPrompts: true,
        continuesText: "all",
        price: { inputPerMillionTokens: 20_000_000n, outputPerMillionTokens: 10n ** 17n, perSecond: 0n },
      },
    ],
    ...values,
  };
}

const code = (expected: string) => (error: unknown) => error instanceof SkeinError && error.code === expected;

test("a signed offer opens to what was signed, amounts included", async () => {
  assert.deepEqual(await openOffer(await signOffer(signer, offerOf()), { nowMs }), offerOf());
});

test("a forged offer is refused: any changed byte, another signer, another kind of statement", async () => {
  const envelope = await signOffer(signer, offerOf());
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
      const payload = envelope.payload.slice();
      payload[at % payload.length]! ^= flip;
      await assert.rejects(openOffer({ ...envelope, payload }, { nowMs }), SkeinError);
    }),
  );
  const signature = envelope.signature.slice();
  signature[0]! ^= 1;
  await assert.rejects(openOffer({ ...envelope, signature }, { nowMs }), code("invalid_signature"));
  const foreign = await signStatement(stranger, "skein-offer-v1", offerOf());
  await assert.rejects(openOffer(foreign, { nowMs }), code("invalid_signature"));
  const otherKind = await signStatement(signer, "skein-gateway-v1", offerOf());
  await assert.rejects(openOffer(otherKind, { nowMs }), code("invalid_signature"));
});

test("dates are checked: expired, from the future, binding for too long", async () => {
  const late = { nowMs: nowMs + 60_001 };
  await assert.rejects(openOffer(await signOffer(signer, offerOf()), late), /expired/);
  const issuedAtMs = nowMs + clockSkewMaxMs + 1;
  const early = await signOffer(signer, offerOf({ issuedAtMs, expiresAtMs: issuedAtMs + 1 }));
  await assert.rejects(openOffer(early, { nowMs }), /future/);
  const long = await signOffer(signer, offerOf({ expiresAtMs: nowMs + lifetimeMaxMs + 1 }));
  await assert.rejects(openOffer(long, { nowMs }), /future/);
});

test("an offer with more than the limits, or with unknown fields, is refused", async () => {
  const [model] = offerOf().models;
  const many = await signOffer(signer, offerOf({ models: Array.from({ length: 300 }, () => model!) }));
  await assert.rejects(openOffer(many, { nowMs }), code("protocol_violation"));
  const negative = offerOf({ models: [{ ...model!, price: { ...model!.price, perSecond: -1n } }] });
  await assert.rejects(openOffer(await signOffer(signer, negative), { nowMs }), code("protocol_violation"));
  const extra = await signStatement(signer, "skein-offer-v1", { ...offerOf(), extra: 1 });
  await assert.rejects(openOffer(extra, { nowMs }), code("protocol_violation"));
});

test("provider ids are libp2p peer ids and convert both ways", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (key) => {
      const id = providerIdOf(key);
      assert.match(id, /^12D3Koo/);
      assert.deepEqual(publicKeyOf(id), Uint8Array.from(key));
    }),
  );
  for (const bad of ["", "12D3Koo", "Qm", "0OIl", "x".repeat(100)]) {
    assert.throws(() => publicKeyOf(bad), code("protocol_violation"), bad);
  }
});

test("a join proof holds for one token, one prover, one pair of peers and one pair of nonces", async () => {
  const facts = {
    gatewayId: signer.providerId,
    providerId: stranger.providerId,
    gatewayNonce: seededRandom(3).bytes(32),
    providerNonce: seededRandom(4).bytes(32),
  };
  const proof = await joinProof("token", "provider", facts);
  assert.equal(await checkJoinProof("token", "provider", facts, proof), true);
  assert.equal(await checkJoinProof("other", "provider", facts, proof), false);
  assert.equal(await checkJoinProof("token", "gateway", facts, proof), false);
  const swapped = { ...facts, gatewayId: facts.providerId, providerId: facts.gatewayId };
  assert.equal(await checkJoinProof("token", "provider", swapped, proof), false);
  const replayed = { ...facts, gatewayNonce: seededRandom(5).bytes(32) };
  assert.equal(await checkJoinProof("token", "provider", replayed, proof), false);
});
