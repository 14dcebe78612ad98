/** Questions about a partition: offsets and producers. */
import { AppError } from "@millrace/base";
import type { Log } from "@millrace/log";
import {
  type DescribeProducersRequest,
  type DescribeProducersResponse,
  type ListOffsetsRequest,
  type ListOffsetsResponse,
  OffsetQuery,
} from "@millrace/proto/storage";
import type { ServiceParts } from "./service-parts.ts";

/** Finds an offset, with the epoch that a stored position needs (rule L4). */
export async function listOffsets(
  request: ListOffsetsRequest,
  { partitions }: ServiceParts,
): Promise<ListOffsetsResponse> {
  const { log } = partitions.serve(request.topicId, request.partition, request.leaderEpoch);
  const found = await findOffset(log, request);
  return {
    offset: found.offset,
    timestampMs: found.timestampMs,
    positionEpoch: found.offset > 0 ? (log.epochAt(found.offset - 1) ?? -1) : -1,
    startOffset: log.startOffset,
    highWatermark: log.durableOffset,
  };
}

async function findOffset(
  log: Log,
  { query, timestampMs }: ListOffsetsRequest,
): Promise<{ readonly offset: number; readonly timestampMs: number }> {
  switch (query) {
    case OffsetQuery.START:
      return { offset: log.startOffset, timestampMs: -1 };
    case OffsetQuery.END:
      return { offset: log.durableOffset, timestampMs: -1 };
    case OffsetQuery.AT_TIME:
      return (await log.offsetForTime(timestampMs)) ?? { offset: log.durableOffset, timestampMs: -1 };
    default:
      throw new AppError(
        "INVALID_REQUEST",
        `the offset query ${query} is not known; use START, END or AT_TIME`,
      );
  }
}

/** What the partition knows of its producers (rule P4). */
export async function describeProducers(
  request: DescribeProducersRequest,
  { partitions }: ServiceParts,
): Promise<DescribeProducersResponse> {
  const { log } = partitions.serve(request.topicId, request.partition, -1);
  const producers = log
    .producers()
    .filter(({ producerId }) => request.producerId === 0 || producerId === request.producerId);
  return { producers: producers.map((producer) => ({ ...producer })) };
}
