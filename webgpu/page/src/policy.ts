/**
 * The page's policy (`require-trusted-types-for 'script'`) lets no text become markup or script. What remains
 * is the address of a worker, which must be of this site.
 */

interface Rules {
  createScriptURL(address: string): string;
}
interface Factory {
  createPolicy(name: string, rules: Rules): unknown;
}

/** Called before anything else; without it no worker starts. */
export function guard(): void {
  // Browsers without trusted types take plain addresses, and the rest of the policy holds there as well.
  (globalThis as { trustedTypes?: Factory }).trustedTypes?.createPolicy("default", { createScriptURL });
}

function createScriptURL(address: string): string {
  const url = new URL(address, document.baseURI);
  const here = new URL(".", document.baseURI);
  if (url.origin === here.origin && url.pathname.startsWith(here.pathname)) return url.href;
  throw new TypeError(`${url.href} is not of this site`);
}
