/** Decisions about producer ids, names and epochs (P1, P2). */
import { AppError, printable } from "@millrace/base";
import type {
  AllocateProducerIds,
  Decision,
  DecisionInputs,
  InitProducer,
  RemoveProducer,
} from "./commands.ts";
import type { ClusterImage, ProducerImage } from "./image.ts";
import { namedProducerIdMin, nodeTextCharsMax, producerEpochMax } from "./limits.ts";
import type { ProducerRemoved } from "./records.ts";

/** Longest producer name. */
const producerNameCharsMax = 512;

/** P1, P2: the same name keeps its id and gets the next epoch; a used-up epoch gives a new id. */
export function initProducer(image: ClusterImage, command: InitProducer, inputs: DecisionInputs): Decision {
  checkProducerName(command.name);
  const present = image.producers.get(command.name);
  if (present === undefined && image.producers.size >= inputs.limits.namedProducersMax) {
    throw new AppError(
      "LIMIT_EXCEEDED",
      `the cluster has its limit of ${inputs.limits.namedProducersMax} named producers: remove those that are gone for good`,
    );
  }
  checkOwner(command, present);
  const startId = command.lineage.at(-1) ?? "";
  if (startId.length > nodeTextCharsMax || printable(startId, nodeTextCharsMax) !== startId) {
    throw new AppError("INVALID_REQUEST", `a start id has at most ${nodeTextCharsMax} printable characters`);
  }
  const isUsedUp = present !== undefined && present.producerEpoch >= producerEpochMax;
  const isNewId = present === undefined || isUsedUp;
  const producerId = isNewId ? image.namedProducerIdNext : present.producerId;
  const producerEpoch = isNewId ? 0 : present.producerEpoch + 1;
  return {
    records: [
      {
        kind: "producerNamed",
        name: command.name,
        producerId,
        producerEpoch,
        startId,
        // Kept from then on: a partition that is written to once a year must meet it too.
        previousProducerId: isUsedUp ? present.producerId : (present?.previousProducerId ?? 0),
      },
    ],
    answer: { kind: "producerNamed", subject: command.name, producerId, producerEpoch },
  };
}

/** A block of anonymous ids: [anonymousProducerIdNext, anonymousProducerIdNext + count). */
export function allocateProducerIds(image: ClusterImage, command: AllocateProducerIds): Decision {
  const nextId = image.anonymousProducerIdNext + command.count;
  if (nextId > namedProducerIdMin) {
    throw new AppError("LIMIT_EXCEEDED", "all anonymous producer ids are used up: name the producers");
  }
  return { records: [{ kind: "producerIdsAllocated", nextId }], answer: undefined };
}

/** Forgets a name. An unknown name is no error: the outcome is what was asked for. */
export function removeProducer(image: ClusterImage, command: RemoveProducer): Decision {
  checkProducerName(command.name);
  const present = image.producers.get(command.name);
  const producerId = present?.producerId ?? 0;
  const previousId = present?.previousProducerId ?? 0;
  return {
    records: [
      ...(present === undefined ? [] : [removed(command.name, producerId)]),
      ...(previousId === 0 ? [] : [removed("", previousId)]),
    ],
    answer: { kind: "producerRemoved", subject: command.name, producerId },
  };
}

function removed(name: string, producerId: number): ProducerRemoved {
  return { kind: "producerRemoved", name, producerId };
}

/** L1 for the owner of a name: a copy of its directory cannot take over its producers. */
function checkOwner(command: InitProducer, present: ProducerImage | undefined): void {
  if (present === undefined || present.startId === "" || command.lineage.includes(present.startId)) return;
  throw new AppError(
    "LINEAGE_REFUSED",
    `producer ${printable(command.name)} belongs to a data directory whose last start (${present.startId}) is not in this caller's history: it is a copy or an older state (rule L1)`,
    { metadata: { producer: printable(command.name) } },
  );
}

function checkProducerName(name: string): void {
  if (
    name.length === 0 ||
    name.length > producerNameCharsMax ||
    printable(name, producerNameCharsMax) !== name
  ) {
    throw new AppError(
      "INVALID_REQUEST",
      `a producer name has 1 to ${producerNameCharsMax} printable characters`,
    );
  }
}
