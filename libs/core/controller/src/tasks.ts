/**
 * Which connector instance runs which task: a pure function of alive instances, connectors and partitions (C1).
 *
 * Balanced: no instance has two tasks more than another. Sticky: a task moves only when its instance is gone, started
 * anew, or has more than its share. Every change of instance or incarnation raises the task's epoch, so that the
 * destination fences the one before.
 */
import {
  aliveNodes,
  type ClusterImage,
  compareText,
  type NodeImage,
  type TaskImage,
  taskKey,
} from "./image.ts";
import type { MetadataRecord } from "./records.ts";

interface Wanted {
  readonly key: string;
  readonly connector: string;
  readonly topicId: string;
  readonly partition: number;
  readonly present: TaskImage | undefined;
}

/** Tasks that are wanted, by key: each partition of each existing topic of each connector, once. */
function wantedTasks(image: ClusterImage): Map<string, Wanted> {
  const wanted = new Map<string, Wanted>();
  const connectors = [...image.connectors.values()].sort((a, b) => compareText(a.name, b.name));
  for (const connector of connectors) {
    for (const name of [...connector.topics].sort(compareText)) {
      const topicId = image.topicIds.get(name);
      const topic = topicId === undefined ? undefined : image.topics.get(topicId);
      topic?.partitions.forEach((_, partition) => {
        const task = { connector: connector.name, topicId: topic.topicId, partition };
        const key = taskKey(task);
        wanted.set(key, { ...task, key, present: image.tasks.get(key) });
      });
    }
  }
  return wanted;
}

/** Records that bring the assignments in line with the image; none when they are. */
export function assignTasks(image: ClusterImage): MetadataRecord[] {
  const wanted = wantedTasks(image);
  const records: MetadataRecord[] = [];
  for (const [key, task] of image.tasks) {
    if (wanted.has(key)) continue;
    records.push(endOf(task));
  }
  const holders = distribute([...wanted.values()], aliveNodes(image, "connector"));
  for (const task of wanted.values()) {
    const holder = holders.get(task.key);
    const instanceId = holder?.nodeId ?? "";
    const incarnation = holder?.incarnation ?? "";
    const { present } = task;
    if (present?.instanceId === instanceId && present.incarnation === incarnation) continue;
    const floor = present?.taskEpoch ?? image.connectorMemory.get(task.connector)?.taskEpochFloor ?? 0;
    records.push({
      kind: "taskAssigned",
      connector: task.connector,
      topicId: task.topicId,
      partition: task.partition,
      instanceId,
      incarnation,
      taskEpoch: floor + 1,
    });
  }
  return records;
}

/** Records that end the tasks of a topic or a connector, before it goes. */
export function endTasks(image: ClusterImage, isOver: (task: TaskImage) => boolean): MetadataRecord[] {
  return [...image.tasks.values()].filter(isOver).map(endOf);
}

function endOf({ connector, topicId, partition, taskEpoch }: TaskImage): MetadataRecord {
  return { kind: "taskEnded", connector, topicId, partition, taskEpoch };
}

/** Tasks held by one instance, during distribution. */
interface Share {
  readonly node: NodeImage;
  readonly tasks: Wanted[];
  readonly perConnector: Map<string, number>;
}

function distribute(tasks: readonly Wanted[], instances: readonly NodeImage[]): Map<string, NodeImage> {
  const shares = new Map<string, Share>(
    instances.map((node) => [node.nodeId, { node, tasks: [], perConnector: new Map<string, number>() }]),
  );
  const holders = new Map<string, NodeImage>();
  if (shares.size === 0) return holders;
  const unheld: Wanted[] = [];
  for (const task of tasks) {
    const share = shares.get(task.present?.instanceId ?? "");
    if (share === undefined) unheld.push(task);
    else give(share, task);
  }
  const all = [...shares.values()];
  for (const task of unheld) give(leastLoaded(all, task.connector), task);
  for (;;) {
    const most = all.reduce((a, b) => (b.tasks.length > a.tasks.length ? b : a));
    const least = all.reduce((a, b) => (b.tasks.length < a.tasks.length ? b : a));
    if (most.tasks.length - least.tasks.length <= 1) break;
    give(least, takeFromLargest(most));
  }
  for (const share of all) for (const task of share.tasks) holders.set(task.key, share.node);
  return holders;
}

function give(share: Share, task: Wanted): void {
  share.tasks.push(task);
  share.perConnector.set(task.connector, (share.perConnector.get(task.connector) ?? 0) + 1);
}

/** Fewest tasks; among equals, fewest of the same connector; among those, the lowest id. */
function leastLoaded(shares: readonly Share[], connector: string): Share {
  return shares.reduce((best, share) => {
    const difference =
      share.tasks.length - best.tasks.length ||
      (share.perConnector.get(connector) ?? 0) - (best.perConnector.get(connector) ?? 0);
    return difference < 0 ? share : best;
  });
}

/** Takes the last task of the connector that has most here. */
function takeFromLargest(share: Share): Wanted {
  let largest = "";
  for (const [connector, count] of share.perConnector) {
    if (count > (share.perConnector.get(largest) ?? 0)) largest = connector;
  }
  const index = share.tasks.findLastIndex((task) => task.connector === largest);
  const [task] = share.tasks.splice(index, 1) as [Wanted];
  share.perConnector.set(largest, (share.perConnector.get(largest) ?? 0) - 1);
  return task;
}
