import { contextTag, readAll, readDer, readObjectIdentifier, readOptional, TAG } from './der.js';

/** An extension of a certificate (RFC 5280 section 4.2) or of a CRL (section 5.2). */
export interface Extension {
  readonly id: string;
  readonly critical: boolean;
  /** The DER of its value. */
  readonly value: Buffer;
}

/**
 * The extensions of a certificate, in its order.
 * @param behindKey - the bytes that follow the public key in a `TBSCertificate`
 * @throws Error if an extension is malformed
 */
export function readExtensions(behindKey: Buffer): Extension[] {
  let rest = behindKey;
  // Two unique identifiers may precede them, but are not used in practice.
  for (const tag of [0x81, 0x82]) rest = readOptional(rest, tag)?.rest ?? rest;
  const extensions = readOptional(rest, contextTag(3));
  if (extensions === undefined) return [];
  return readExtensionList(readDer(extensions.content, TAG.sequence).content);
}

/**
 * The extensions in the content of an `Extensions`, in its order.
 * @throws Error if an extension is malformed
 */
export function readExtensionList(content: Buffer): Extension[] {
  return readAll(content).map((extension) => {
    const id = readDer(extension.content, TAG.objectIdentifier);
    const critical = readOptional(id.rest, TAG.boolean);
    return {
      id: readObjectIdentifier(id.content),
      critical: critical !== undefined && critical.content[0] !== 0,
      value: readDer(critical?.rest ?? id.rest, TAG.octetString).content,
    };
  });
}
