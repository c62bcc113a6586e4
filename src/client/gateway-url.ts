/** Where a gateway listens that nobody told otherwise. */
const gatewayPortDefault = "4141";

/**
 * What a person gives as a gateway's address: a URL or `host`, `host:port`; null when it is neither.
 * A bare host is a short form; nobody means port 80 by it.
 */
export function parseGatewayUrl(text: string): URL | null {
  const hasScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(text);
  const full = hasScheme ? text : `http://${text}`;
  if (!/^https?:/i.test(full) || !URL.canParse(full)) return null;
  const url = new URL(full);
  // `url.port` is empty for an explicit `:80`, too.
  if (!hasScheme && !/^[^/?#]*:\d+(?:[/?#]|$)/.test(text)) url.port = gatewayPortDefault;
  return url;
}
