/** Creating and removing logs: durable steps in an order that any crash leaves finishable (J1). */
import { join } from "node:path";
import { checkName, checkTopicName, invariant } from "@millrace/base";
import type { DirectoryCore } from "./directory-core.ts";
import {
  createLogFolder,
  deletedSuffix,
  logFolder,
  registrationChange,
  setAside,
  takeLogNumber,
  unregistrationChange,
} from "./log-registry.ts";
import { PartitionLog } from "./partition-log.ts";
import { removedProducerPrefix, replacedProducerPrefix } from "./state-table.ts";
import type { LogConfig, LogId } from "./types.ts";

/** Folder first, then the registration: a crash in between leaves an empty folder that recovery removes. */
export async function createLog(core: DirectoryCore, id: LogId, config: LogConfig): Promise<PartitionLog> {
  if (id.kind === "topic") checkTopicName(id.topicName);
  else checkName("channel", id.channelId);
  const folder = join(core.path, logFolder(id));
  const { strayPath } = await core.guard(() => createLogFolder(core.disk, core.path, id));
  if (strayPath !== undefined) core.emit({ kind: "strayDirectory", path: strayPath });
  const { number, change } = takeLogNumber(core.state);
  const log = new PartitionLog(core, number, id, config, folder);
  log.roll();
  log.areEpochsDirty = id.kind === "topic";
  await log.saveEpochs();
  await core.segmentWriter.ensureOnDisk(log, log.activeSegment);
  await core.submitState([change, registrationChange({ number, id, config, isDeleted: false })]);
  core.addLog(log);
  return log;
}

/** Registration marked, folder renamed and removed, registration gone: recovery finishes from any point. */
export async function deleteLog(core: DirectoryCore, log: PartitionLog): Promise<void> {
  invariant(core.getLog(log.number) === log, "the log is of this directory");
  const { number, id, config } = log;
  await core.flush();
  await core.drainSegments();
  await core.submitState([registrationChange({ number, id, config, isDeleted: true })]);
  core.removeLog(log);
  log.isDeleted = true;
  // Readers under way see that their segment is none any more.
  log.segments = [];
  await log.saveEpochs();
  await core.guard(async () => {
    await core.files.forgetBelow(log.directory);
    await core.disk.removeTree(await setAside(core.disk, log.directory, deletedSuffix));
  });
  const producerKeys = [removedProducerPrefix(number), replacedProducerPrefix(number)]
    .flatMap((prefix) => core.stateKeys(prefix))
    .map((key) => ({ key, value: null }));
  await core.submitState([unregistrationChange(number), ...producerKeys]);
}
