/**
 * Names in an output directory.
 *
 *   DIR/<prefix><topic>-<partition>-<first offset, 20 digits>.log       published, complete, never touched again
 *   DIR/.millrace/<owner and origin>/entries/<number>.json              commit log (C2)
 *   DIR/.millrace/<owner and origin>/tmp/<epoch>-<nonce>-<n>.tmp        data not yet published
 *   DIR/.millrace/names/<stem>                                          which origin owns the names that start so
 *
 * No name holds a colon or a slash of a user's, and none depends on the wall clock.
 */
import { createHash } from "node:crypto";
import type { Origin } from "@millrace/flow";

/** Hidden folder of the bookkeeping. */
export const bookkeepingFolder = ".millrace";

/** Folder of the name claims, below {@link bookkeepingFolder}. No origin's folder is called so: theirs have a dot. */
export const claimsFolder = "names";

/** The text itself where it is fit as a part of a file name, else a hash of it. */
function safePart(text: string): string {
  return /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/.test(text)
    ? text
    : createHash("sha256").update(text).digest("base64url").slice(0, 22);
}

/**
 * Folder name of an owner's commit log for one origin: (cluster id, connector, topic id, partition) or (agent,
 * channel), C2. Two connectors that write the same topic into one directory do not meet.
 */
export function logFolderName(origin: Origin, ownerId: string): string {
  return origin.kind === "channel"
    ? `${safePart(origin.agentId)}.${safePart(origin.channelId)}`
    : `${safePart(origin.clusterId)}.${safePart(ownerId)}.${safePart(origin.topicId)}-${origin.partition}`;
}

/** First part of the published names: `<prefix><topic>-<partition>` or `<prefix><channel>`. */
export function stemLabel(origin: Origin, prefix: string): string {
  const name =
    origin.kind === "channel"
      ? origin.channelName.replaceAll(/[^A-Za-z0-9._-]/g, "_")
      : `${origin.topic}-${origin.partition}`;
  const label = `${prefix}${name}`;
  return label.startsWith(".") ? `_${label.slice(1)}` : label;
}

/** Name of a published file. */
export function publishedName(stem: string, firstOffset: number, extension: string): string {
  return `${stem}-${String(firstOffset).padStart(20, "0")}${extension}`;
}

/** Another name for a file whose own name is taken by something that is not ours. */
export function alternativeName(name: string, copy: number): string {
  const dot = name.lastIndexOf(".");
  return dot <= 0 ? `${name}.${copy}` : `${name.slice(0, dot)}.${copy}${name.slice(dot)}`;
}

/** Name of a temporary data file. */
export function temporaryName(epoch: number, nonce: string, sequence: number): string {
  return `${epoch}-${nonce}-${sequence}.tmp`;
}

/** Epoch and nonce of a temporary's writer; undefined for a foreign name. */
export function parseTemporaryName(name: string): { epoch: number; nonce: string } | undefined {
  const match = /^(\d+)-([A-Za-z0-9_-]{22})-\d+\.tmp$/.exec(name);
  return match === null ? undefined : { epoch: Number(match[1]), nonce: match[2] as string };
}
