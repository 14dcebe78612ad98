/** What the handlers of all services share. */
import { AppError } from "@millrace/base";
import type { ClusterImage } from "@millrace/controller";
import type { MetadataLog } from "@millrace/coordination";
import type { Handshake, HandshakeReply } from "@millrace/proto/common";
import type { ActiveController } from "../drivers/active-controller.ts";
import type { ProducerIds } from "../drivers/producer-ids.ts";
import type { Sessions } from "../drivers/sessions.ts";
import type { TaskBoard } from "../drivers/task-board.ts";
import type { WatchHub } from "../drivers/watch-hub.ts";

/** See the fields. */
export interface ServiceContext {
  readonly controller: ActiveController;
  readonly log: MetadataLog;
  readonly hub: WatchHub;
  readonly sessions: Sessions;
  readonly producerIds: ProducerIds;
  readonly taskBoard: TaskBoard;
  /** Node id of this metadata service. */
  readonly nodeId: string;
  readonly version: string;
  /** Checks cluster and protocol version of a caller. */
  greet(handshake: Handshake | undefined): HandshakeReply;
}

/** Throws CLUSTER_MISMATCH when a caller believes to talk to another cluster. */
export function checkCluster(image: ClusterImage, clusterId: string): void {
  if (clusterId === "" || clusterId === image.clusterId) return;
  throw new AppError(
    "CLUSTER_MISMATCH",
    `the caller belongs to cluster ${clusterId.slice(0, 64)}, this is cluster ${image.clusterId}: check the bootstrap address`,
    { metadata: { clusterId: image.clusterId } },
  );
}

/** Largest page of a list. */
const pageSizeMax = 1_000;

/** One page of `items`, ordered by `nameOf`; the token is the last name of the page before. */
export function pageOf<Item>(
  items: Iterable<Item>,
  nameOf: (item: Item) => string,
  request: { readonly pageSize: number; readonly pageToken: string },
): { page: Item[]; nextPageToken: string } {
  if (request.pageSize < 0 || request.pageSize > pageSizeMax) {
    throw new AppError("INVALID_REQUEST", `page_size is 0 to ${pageSizeMax}, not ${request.pageSize}`);
  }
  const pageSize = request.pageSize === 0 ? pageSizeMax : request.pageSize;
  const rest = [...items]
    .filter((item) => nameOf(item) > request.pageToken)
    .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  const page = rest.slice(0, pageSize);
  const last = page.at(-1);
  return { page, nextPageToken: rest.length > pageSize && last !== undefined ? nameOf(last) : "" };
}
