/**
 * Plain unions of `core/controller` to protobuf and back. Field names are the same on both sides; what differs are
 * enums and the compact form of answers. An entry without a known record was written by a newer version: it stops the
 * reader (design §4).
 */
import { AppError } from "@millrace/base";
import type { Answer, MetadataRecord, NodeRoleName, NodeStateName } from "@millrace/controller";
import {
  LoggedAnswerKind,
  LoggedNodeState,
  LoggedRole,
  MetadataEntry,
  type RequestAnsweredRecord,
} from "@millrace/proto/metadatalog";

const roleNumbers: Readonly<Record<NodeRoleName, LoggedRole>> = {
  metadata: LoggedRole.METADATA,
  storage: LoggedRole.STORAGE,
  agent: LoggedRole.AGENT,
  connector: LoggedRole.CONNECTOR,
};

const stateNumbers: Readonly<Record<NodeStateName, LoggedNodeState>> = {
  alive: LoggedNodeState.ALIVE,
  fenced: LoggedNodeState.FENCED,
  stopping: LoggedNodeState.STOPPING,
};

const answerNumbers: Readonly<Record<Answer["kind"], LoggedAnswerKind>> = {
  topicCreated: LoggedAnswerKind.TOPIC_CREATED,
  topicDeleted: LoggedAnswerKind.TOPIC_DELETED,
  topicAltered: LoggedAnswerKind.TOPIC_ALTERED,
  nodeRegistered: LoggedAnswerKind.NODE_REGISTERED,
  producerNamed: LoggedAnswerKind.PRODUCER_NAMED,
  producerRemoved: LoggedAnswerKind.PRODUCER_REMOVED,
  connectorCreated: LoggedAnswerKind.CONNECTOR_CREATED,
  connectorDeleted: LoggedAnswerKind.CONNECTOR_DELETED,
};

type EntryRecord = NonNullable<MetadataEntry["record"]>;

/** A record as it is stored. */
export function toEntry(record: MetadataRecord): MetadataEntry {
  switch (record.kind) {
    case "nodeRegistered": {
      const { kind, role, state, ...rest } = record;
      return entry(kind, { ...rest, role: roleNumbers[role], state: stateNumbers[state] });
    }
    case "requestAnswered": {
      const { kind, requestId, answer, sequence } = record;
      return entry(kind, { requestId, sequence, ...toLoggedAnswer(answer) });
    }
    default: {
      const { kind, ...rest } = record;
      return entry(kind, rest);
    }
  }
}

/** The encoded size of a record inside a batch, in bytes: its own bytes, tag and length. */
export function entryBytes(record: MetadataRecord): number {
  return MetadataEntry.encode(toEntry(record)).finish().byteLength + 6;
}

/** A stored record. Throws UNSUPPORTED_VERSION for an unknown kind, INTERNAL for an incomplete one. */
export function fromEntry(stored: MetadataEntry): MetadataRecord {
  const { record } = stored;
  if (record === undefined) {
    throw new AppError(
      "UNSUPPORTED_VERSION",
      "the metadata log holds a record of a kind this version does not know: it was written by a newer version; start that version",
    );
  }
  switch (record.$case) {
    case "nodeRegistered": {
      const { role, state, ...rest } = record.value;
      const roleName = nameOf(roleNumbers, role, "node role");
      return {
        kind: "nodeRegistered",
        ...rest,
        role: roleName,
        state: nameOf(stateNumbers, state, "node state"),
      };
    }
    case "requestAnswered": {
      const { requestId, sequence } = record.value;
      return { kind: "requestAnswered", requestId, answer: fromLoggedAnswer(record.value), sequence };
    }
    case "partitionChanged": {
      const { state, ...rest } = record.value;
      if (state === undefined) throw new AppError("INTERNAL", "a logged partition change has no state");
      return { kind: "partitionChanged", ...rest, state };
    }
    default:
      return plain(record);
  }
}

type SpecialCase = "nodeRegistered" | "requestAnswered" | "partitionChanged";

/** The records whose stored form has the same fields. */
function plain(record: Exclude<EntryRecord, { $case: SpecialCase }>): MetadataRecord {
  return { kind: record.$case, ...record.value } as MetadataRecord;
}

function entry(kind: EntryRecord["$case"], value: object): MetadataEntry {
  // Readonly arrays on the plain side are the only difference to the generated types.
  return { record: { $case: kind, value } as EntryRecord };
}

function nameOf<Name extends string, Value>(
  numbers: Readonly<Record<Name, Value>>,
  value: Value,
  what: string,
): Name {
  for (const name of Object.keys(numbers) as Name[]) if (numbers[name] === value) return name;
  throw new AppError(
    "UNSUPPORTED_VERSION",
    `the metadata log holds a ${what} this version does not know: start the version that wrote it`,
  );
}

function toLoggedAnswer(answer: Answer): Omit<RequestAnsweredRecord, "requestId" | "sequence"> {
  const base = { kind: answerNumbers[answer.kind], subject: answer.subject, id: "", number: 0, epoch: 0 };
  switch (answer.kind) {
    case "topicCreated":
    case "topicDeleted":
    case "topicAltered":
      return { ...base, id: answer.topicId };
    case "connectorCreated":
      return { ...base, id: answer.connectorId };
    case "nodeRegistered":
      return { ...base, number: answer.nodeEpoch };
    case "producerNamed":
      return { ...base, number: answer.producerId, epoch: answer.producerEpoch };
    case "producerRemoved":
      return { ...base, number: answer.producerId };
    case "connectorDeleted":
      return base;
  }
}

function fromLoggedAnswer(stored: RequestAnsweredRecord): Answer {
  const { subject } = stored;
  const kind = nameOf(answerNumbers, stored.kind, "kind of answer");
  switch (kind) {
    case "topicCreated":
    case "topicDeleted":
    case "topicAltered":
      return { kind, subject, topicId: stored.id };
    case "connectorCreated":
      return { kind, subject, connectorId: stored.id };
    case "nodeRegistered":
      return { kind, subject, nodeEpoch: stored.number };
    case "producerNamed":
      return { kind, subject, producerId: stored.number, producerEpoch: stored.epoch };
    case "producerRemoved":
      return { kind, subject, producerId: stored.number };
    case "connectorDeleted":
      return { kind, subject };
  }
}
