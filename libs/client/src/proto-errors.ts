/** Errors inside stream answers, between their message form and AppError. */
import { AppError, isReason } from "@millrace/base";
import type { Error as ErrorMessage } from "@millrace/proto/common";

/** The AppError a message stands for. A reason of a newer version counts as INTERNAL, its name kept. */
export function errorFromMessage(message: ErrorMessage): AppError {
  if (isReason(message.reason))
    return new AppError(message.reason, message.message, { metadata: message.metadata });
  return new AppError("INTERNAL", message.message, {
    metadata: { ...message.metadata, reason: message.reason },
  });
}

/** The message form of whatever was thrown. */
export function errorToMessage(thrown: unknown): ErrorMessage {
  const error = AppError.from(thrown);
  return { reason: error.reason, message: error.message, metadata: { ...error.metadata } };
}
