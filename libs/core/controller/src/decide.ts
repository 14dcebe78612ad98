/**
 * Decisions: `(image, command, inputs) -> records and answer`, or a thrown AppError. Pure: the same image, command and
 * inputs decide the same. Nothing is changed until the records are in the log.
 *
 * A request id that is remembered answers from memory without records. After each command's own records, tasks are
 * brought in line with the image they lead to, in the same batch.
 */
import { AppError, printable, unreachable } from "@millrace/base";
import { applyRecords } from "./apply.ts";
import type { Command, Decision, DecisionInputs } from "./commands.ts";
import { createConnector, deleteConnector } from "./decide-connectors.ts";
import { nodeTimedOut, registerNode, stopNode } from "./decide-nodes.ts";
import { allocateProducerIds, initProducer, removeProducer } from "./decide-producers.ts";
import { alterTopic, createTopic, deleteTopic } from "./decide-topics.ts";
import type { ClusterImage } from "./image.ts";
import { featureLevelSupported, requestIdCharsMax } from "./limits.ts";
import type { Answer, MetadataRecord } from "./records.ts";
import { assignTasks } from "./tasks.ts";

/** Decides a command. Throws AppError when it is refused; then nothing changes. */
export function decide(image: ClusterImage, command: Command, inputs: DecisionInputs): Decision {
  const requestId = "requestId" in command ? command.requestId : "";
  const remembered = rememberedAnswer(image, command, requestId);
  if (remembered !== undefined) return { records: [], answer: remembered };
  const decision = dispatch(image, command, inputs);
  const records: MetadataRecord[] = [...decision.records];
  if (records.some(movesTasks)) records.push(...assignTasks(applyRecords(image, records)));
  if (requestId !== "" && decision.answer !== undefined && !image.requests.has(requestId)) {
    records.push({ kind: "requestAnswered", requestId, answer: decision.answer, sequence: 0 });
  }
  return { records, answer: decision.answer };
}

/** True for records after which tasks may have to change; the rest of the commands need not look at all of them. */
function movesTasks(record: MetadataRecord): boolean {
  switch (record.kind) {
    case "topicCreated":
    case "topicDeleted":
    case "connectorCreated":
    case "connectorDeleted":
    case "nodeFenced":
    case "nodeStopping":
    case "nodeRemoved":
      return true;
    case "nodeRegistered":
      return record.role === "connector";
    default:
      return false;
  }
}

function dispatch(image: ClusterImage, command: Command, inputs: DecisionInputs): Decision {
  switch (command.kind) {
    case "createTopic":
      return createTopic(image, command, inputs);
    case "deleteTopic":
      return deleteTopic(image, command);
    case "alterTopic":
      return alterTopic(image, command);
    case "registerNode":
      return registerNode(image, command, inputs);
    case "nodeTimedOut":
      return nodeTimedOut(image, command);
    case "stopNode":
      return stopNode(image, command);
    case "initProducer":
      return initProducer(image, command, inputs);
    case "allocateProducerIds":
      return allocateProducerIds(image, command);
    case "removeProducer":
      return removeProducer(image, command);
    case "createConnector":
      return createConnector(image, command, inputs);
    case "deleteConnector":
      return deleteConnector(image, command);
    case "electController":
      return electController(image, command.controllerId, inputs);
    default:
      return unreachable(command);
  }
}

/** The answer to a repeated request; undefined when it is new. */
function rememberedAnswer(image: ClusterImage, command: Command, requestId: string): Answer | undefined {
  if (requestId.length > requestIdCharsMax || printable(requestId) !== requestId) {
    throw new AppError(
      "INVALID_REQUEST",
      `a request id has at most ${requestIdCharsMax} printable characters`,
    );
  }
  const request = image.requests.get(requestId);
  if (request === undefined) return undefined;
  const { answer } = request;
  if (!isAnswerTo(answer, command)) {
    throw new AppError(
      "INVALID_REQUEST",
      `request id ${requestId} was used for another request (${answer.kind} ${printable(answer.subject)}): every request needs an id of its own`,
    );
  }
  // A registration that has ended since is not given again: the node would never get a live one.
  if (answer.kind === "nodeRegistered") {
    const node = image.nodes.get(answer.subject);
    if (node?.state !== "alive" || node.nodeEpoch !== answer.nodeEpoch) return undefined;
  }
  return answer;
}

/** Which command an answer belongs to. */
const commandOf: Readonly<Record<Answer["kind"], Command["kind"]>> = {
  topicCreated: "createTopic",
  topicDeleted: "deleteTopic",
  topicAltered: "alterTopic",
  nodeRegistered: "registerNode",
  producerNamed: "initProducer",
  producerRemoved: "removeProducer",
  connectorCreated: "createConnector",
  connectorDeleted: "deleteConnector",
};

function isAnswerTo(answer: Answer, command: Command): boolean {
  if (commandOf[answer.kind] !== command.kind) return false;
  if (command.kind === "registerNode") return command.nodeId === answer.subject;
  if (command.kind === "deleteTopic" && command.topicId !== "") return command.topicId === answer.subject;
  return "name" in command && command.name === answer.subject;
}

function electController(image: ClusterImage, controllerId: string, inputs: DecisionInputs): Decision {
  const records: MetadataRecord[] = [];
  if (image.clusterId === "") {
    records.push(
      { kind: "clusterCreated", clusterId: inputs.newId, createdMs: inputs.nowMs },
      { kind: "featureLevelSet", level: featureLevelSupported },
    );
  }
  records.push({ kind: "controllerElected", controllerId, epoch: image.controllerEpoch + 1 });
  return { records, answer: undefined };
}
