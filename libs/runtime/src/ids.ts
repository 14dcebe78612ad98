/** Random identities: topic ids, directory ids, incarnations. */
import { randomBytes } from "node:crypto";

/** Length of an id in text. */
export const idLength = 22;

/** 128 random bits as base64url without padding, 22 characters (the form Kafka shows topic ids in). Never starts with "-". */
export function randomId(): string {
  for (;;) {
    const id = randomBytes(16).toString("base64url");
    if (!id.startsWith("-")) return id;
  }
}

/** True when `text` has the form of {@link randomId}. */
export function isId(text: string): boolean {
  return /^[A-Za-z0-9_-]{22}$/.test(text);
}
