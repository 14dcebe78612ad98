/** A new identity for a copied or restored agent directory (L1): `millrace agent identity --new DIR`. */
import { renewIdentity } from "@millrace/log";
import { realDisk } from "@millrace/runtime";

/**
 * Gives the agent's data directory an id of its own; returns it. What its channels hold is delivered under that id, also
 * what the original has delivered since the copy was made. Throws ALREADY_LOCKED, INVALID_CONFIG.
 */
export function renewAgentIdentity(path: string): Promise<string> {
  return renewIdentity({ path, disk: realDisk, role: "agent" });
}
