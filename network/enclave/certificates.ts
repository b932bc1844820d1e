/**
 * Whether a certificate shown in a handshake is that of a node of this service.
 *
 * The service's key is the only anchor. Validity times are not looked at, as in CCF: an enclave has no clock that its host
 * could not set, and a node is shut out by losing its place in the node table, not by a date.
 *
 * Trusted. Pure.
 */
import { X509Certificate } from "node:crypto";

/** DER SubjectPublicKeyInfo of a certificate. */
export function publicKeyOf(certificate: X509Certificate): Buffer {
  return certificate.publicKey.export({ type: "spki", format: "der" });
}

/** True if the holder of the service certificate's key signed this certificate, under the service's name. */
export function issuedByService(certificate: X509Certificate, serviceCertificatePem: string): boolean {
  const service = new X509Certificate(serviceCertificatePem);
  return certificate.checkIssued(service) && certificate.verify(service.publicKey);
}
