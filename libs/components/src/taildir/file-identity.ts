/**
 * Which file is this? Device and inode say it until an inode is used again or the file is truncated and rewritten
 * (copytruncate); so the first bytes are remembered too, with how many they were, because a young file grows.
 */
import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";

/** Bytes of a file's beginning that identify it. */
export const fingerprintBytesMax = 256;

/** The saved position of one file: the text kept in the channel's transaction. */
export interface FilePosition {
  /** Path of first sight: the stream's name. */
  readonly path: string;
  /** File group it belongs to; empty for `paths`. */
  readonly group: string;
  /** Files are read in the order in which they were first seen: an older one of a stream before a newer. */
  readonly born: number;
  readonly device: number;
  readonly inode: number;
  /** +1 when the same inode was found with another content. */
  readonly generation: number;
  /** Next byte to read. */
  readonly offset: number;
  readonly fingerprint: string;
  readonly fingerprintBytes: number;
  /** True: the record before `offset` ended without newline (`--once`); a newline found there belongs to it. */
  readonly endedOpen: boolean;
  /** Records given of this generation up to `offset` (S1). */
  readonly recordCount: number;
}

/** Key of a file's position: unique per file and generation. */
export function positionKey(position: Pick<FilePosition, "device" | "inode" | "generation">): string {
  return `${position.device}:${position.inode}:${position.generation}`;
}

/** Hash of the first `byteCount` bytes, or undefined when the file is shorter. */
export async function fingerprintOf(handle: FileHandle, byteCount: number): Promise<string | undefined> {
  const bytes = Buffer.allocUnsafe(byteCount);
  const { bytesRead } = byteCount === 0 ? { bytesRead: 0 } : await handle.read(bytes, 0, byteCount, 0);
  if (bytesRead < byteCount) return undefined;
  return createHash("sha256").update(bytes).digest("base64url").slice(0, 22);
}

/** Parses a saved position; undefined when it is not one (another version's text is refused by its `v`). */
export function parsePosition(text: string): FilePosition | undefined {
  try {
    const saved = JSON.parse(text) as { v?: number } & FilePosition;
    return saved.v === 1 ? saved : undefined;
  } catch {
    return undefined;
  }
}

/** The text of a position. */
export function formatPosition(position: FilePosition): string {
  return JSON.stringify({ v: 1, ...position });
}
