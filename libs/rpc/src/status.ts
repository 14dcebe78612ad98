/**
 * Errors between `AppError` and gRPC's status.
 *
 * There: code and message of the error table, and a google.rpc.Status in the trailer `grpc-status-details-bin` with an
 * ErrorInfo {reason, domain, metadata} (and RetryInfo where the table says `afterDelay`). Back: the details decide; a status
 * without them comes from the transport or a foreign server and is mapped by its code.
 */

import { Metadata } from "@grpc/grpc-js";
import { AppError, errorTable, grpcCode, isReason, type Reason } from "@millrace/base";
import { ErrorInfo, RetryInfo } from "@millrace/proto/rpc";
import { Status } from "@millrace/proto/status";
import { errorMessageCharactersMax } from "./limits.ts";

/** The domain of every ErrorInfo of this system. */
export const errorDomain = "millrace";

/** Metadata key with the milliseconds after which a request may be repeated. */
export const retryAfterKey = "retryAfterMs";

/** gRPC's UNKNOWN. */
const unknownCode = 2;

const detailsKey = "grpc-status-details-bin";
const errorInfoType = "type.googleapis.com/google.rpc.ErrorInfo";
const retryInfoType = "type.googleapis.com/google.rpc.RetryInfo";

/** A status as grpc-js takes and gives it. */
export interface WireStatus {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/** The status of an error. */
export function toStatus(error: AppError): WireStatus {
  const code = errorTable[error.reason].grpc;
  const message = boundedMessage(error.message);
  const details = [
    {
      typeUrl: errorInfoType,
      value: ErrorInfo.encode({
        reason: error.reason,
        domain: errorDomain,
        metadata: boundedMetadata(error.metadata),
      }).finish(),
    },
  ];
  const retryAfterMs = Number(error.metadata[retryAfterKey]);
  if (error.retry === "afterDelay" && Number.isSafeInteger(retryAfterMs) && retryAfterMs >= 0) {
    const retryDelay = { seconds: Math.floor(retryAfterMs / 1000), nanos: (retryAfterMs % 1000) * 1_000_000 };
    details.push({ typeUrl: retryInfoType, value: RetryInfo.encode({ retryDelay }).finish() });
  }
  const metadata = new Metadata();
  metadata.set(detailsKey, Buffer.from(Status.encode({ code, message, details }).finish()));
  return { code, details: message, metadata };
}

/** Text that fits a trailer. Lone surrogates, which cannot be encoded, become U+FFFD. */
function boundedMessage(text: string): string {
  const cut =
    text.length > errorMessageCharactersMax ? `${text.slice(0, errorMessageCharactersMax)}...` : text;
  return cut.toWellFormed();
}

function boundedMetadata(metadata: Readonly<Record<string, string>>): Record<string, string> {
  let left = errorMessageCharactersMax;
  const kept: Record<string, string> = {};
  for (const [key, value] of Object.entries(metadata)) {
    left -= key.length + value.length;
    if (left < 0) break;
    kept[key] = value.toWellFormed();
  }
  return kept;
}

/** The error of a call that ended with a status other than OK. `where` names the call: `CreateTopic at 127.0.0.1:9750`. */
export function fromStatus(status: Partial<WireStatus>, where: string): AppError {
  const details = status.metadata?.get(detailsKey)[0];
  const decoded = Buffer.isBuffer(details) ? decodeDetails(details) : undefined;
  return decoded ?? fromCode(status.code ?? unknownCode, status.details ?? "", where);
}

function decodeDetails(bytes: Buffer): AppError | undefined {
  try {
    const { message, details } = Status.decode(bytes);
    const any = details.find((detail) => detail.typeUrl === errorInfoType);
    const info = any === undefined ? undefined : ErrorInfo.decode(any.value);
    if (info?.domain !== errorDomain) return undefined;
    if (isReason(info.reason)) return new AppError(info.reason, message, { metadata: info.metadata });
    // A reason of a newer server: kept by name, treated as what nobody here can act on.
    return new AppError("INTERNAL", message, { metadata: { ...info.metadata, reason: info.reason } });
  } catch {
    return undefined;
  }
}

const reasonOfCode: Readonly<Record<number, Reason>> = {
  [grpcCode.CANCELLED]: "CANCELLED",
  [grpcCode.INVALID_ARGUMENT]: "INVALID_REQUEST",
  [grpcCode.DEADLINE_EXCEEDED]: "TIMED_OUT",
  [grpcCode.PERMISSION_DENIED]: "ACCESS_DENIED",
  [grpcCode.RESOURCE_EXHAUSTED]: "LIMIT_EXCEEDED",
  [grpcCode.UNIMPLEMENTED]: "UNIMPLEMENTED",
  [grpcCode.UNAVAILABLE]: "UNAVAILABLE",
  [grpcCode.UNAUTHENTICATED]: "NOT_AUTHENTICATED",
};

/** What a status without our details means: it was made by the transport, or by a server that is not ours. */
function fromCode(code: number, details: string, where: string): AppError {
  const tooLarge = /larger than max \(?(\d+) vs\.? (\d+)/.exec(details);
  if (tooLarge !== null) {
    return new AppError(
      "LIMIT_EXCEEDED",
      `${where}: a message of ${tooLarge[1]} bytes is larger than the ${tooLarge[2]} bytes allowed: send less at once`,
    );
  }
  // Resets and broken HTTP/2 sessions reach grpc-js under several codes; all mean that the connection is gone.
  const isReset = code === grpcCode.INTERNAL && /RST_STREAM|ECONNRESET|socket hang up/.test(details);
  const reason = isReset ? "UNAVAILABLE" : (reasonOfCode[code] ?? "INTERNAL");
  return new AppError(reason, `${where}: ${explain(reason, details)}`);
}

function explain(reason: Reason, details: string): string {
  switch (reason) {
    case "UNAVAILABLE":
      return `cannot be reached (${connectCause(details)})`;
    case "TIMED_OUT":
      return "no answer within the deadline";
    case "CANCELLED":
      return "the call was cancelled";
    case "UNIMPLEMENTED":
      return "the server does not know this call: it is another service or an older version";
    default:
      return details === "" ? "the call failed" : details;
  }
}

/** grpc-js wraps the system's error in a sentence of its own; people know the system's. */
function connectCause(details: string): string {
  const known = /ECONNREFUSED|ECONNRESET|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|EPIPE/.exec(details)?.[0];
  if (known !== undefined) return { ECONNREFUSED: "connection refused" }[known] ?? known;
  return details === "" ? "connection lost" : details.replace(/\s*Last error: .*$/s, "").slice(0, 200);
}
