/** Interceptors in order, between a source and its channels. Synchronous. */
import { AppError } from "@millrace/base";
import type { Telemetry } from "@millrace/telemetry";
import type { FlowRecord, Interceptor } from "../contract.ts";

/** A configured interceptor. */
export interface NamedInterceptor {
  readonly name: string;
  readonly interceptor: Interceptor;
}

/** A record an interceptor could not handle. */
export interface FailedRecord {
  readonly record: FlowRecord;
  readonly error: AppError;
}

/** A chain of one source. */
export class InterceptorChain {
  readonly #interceptors: readonly NamedInterceptor[];
  readonly #telemetry: Telemetry;

  constructor(interceptors: readonly NamedInterceptor[], telemetry: Telemetry) {
    this.#interceptors = interceptors;
    this.#telemetry = telemetry;
  }

  /**
   * What goes on to the channels. Dropped records are counted with the interceptor's reason. A record at which an
   * interceptor throws is given to `onFailure`; without it, the error is thrown.
   */
  apply(records: readonly FlowRecord[], onFailure?: (failed: FailedRecord) => void): readonly FlowRecord[] {
    if (this.#interceptors.length === 0) return records;
    const kept: FlowRecord[] = [];
    for (const record of records) {
      try {
        const result = this.#applyOne(record);
        if (result !== undefined) kept.push(result);
      } catch (error) {
        if (onFailure === undefined) throw error;
        onFailure({ record, error: AppError.from(error) });
      }
    }
    return kept;
  }

  #applyOne(record: FlowRecord): FlowRecord | undefined {
    let current = record;
    for (const { name, interceptor } of this.#interceptors) {
      const result = interceptor.intercept(current);
      if ("dropped" in result) {
        this.#telemetry.discarded(name, result.dropped, 1);
        return undefined;
      }
      // the way of a record is the source's to say, not an interceptor's
      current = keepSource(result, record);
    }
    return current;
  }
}

function keepSource(result: FlowRecord, { streamId, sourcePosition }: FlowRecord): FlowRecord {
  if (result.streamId === streamId && result.sourcePosition === sourcePosition) return result;
  const { key, value, headers, timestampMs } = result;
  return {
    key,
    value,
    headers,
    timestampMs,
    ...(streamId === undefined ? {} : { streamId }),
    ...(sourcePosition === undefined ? {} : { sourcePosition }),
  };
}
