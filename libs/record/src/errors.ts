/** How the record library refuses: always an AppError whose message says where in the bytes. */
import { AppError, type Reason } from "@millrace/base";

/** Throws `reason` with the batch's position in the message and in the metadata. Cold: callers stay small. */
export function refuseBatch(reason: Reason, position: number, text: string, cause?: unknown): never {
  throw new AppError(reason, `record batch at byte ${position}: ${text}`, {
    metadata: { position: String(position) },
    ...(cause === undefined ? {} : { cause }),
  });
}
