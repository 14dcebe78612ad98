/** MetadataService: discovery, topics, producers, the watch. */
import { AppError, internalTopicPrefix, invariant } from "@millrace/base";
import { type ClusterImage, type Command, topicNamed, topicWithId } from "@millrace/controller";
import {
  type CreateTopicRequest,
  type DeleteTopicRequest,
  type DescribeTopicRequest,
  type DescribeTopicResponse,
  type InitProducerRequest,
  type InitProducerResponse,
  type MetadataServiceService,
  type Topic,
} from "@millrace/proto/metadata";
import type { ServiceHandlers } from "@millrace/rpc";
import { checkCluster, pageOf, type ServiceContext } from "./service-context.ts";
import { toNode, toTopic } from "./to-proto.ts";

/** The handlers. */
export function metadataService(context: ServiceContext): ServiceHandlers<typeof MetadataServiceService> {
  const { controller, hub, log } = context;
  return {
    describeCluster: async () => {
      const { image } = controller;
      const { clusterId, controllerId, featureLevel } = image;
      return {
        clusterId,
        controllerId,
        nodes: [...image.nodes.values()].map(toNode),
        featureLevel,
        version: context.version,
      };
    },
    createTopic: async (request) => {
      checkCluster(controller.image, request.clusterId);
      return { topic: await createTopic(context, request) };
    },
    deleteTopic: async (request) => {
      checkCluster(controller.image, request.clusterId);
      const { answer } = await controller.submit(deleteCommand(request));
      invariant(answer?.kind === "topicDeleted", "a deletion is answered as one");
      return { topicId: answer.topicId };
    },
    listTopics: async (request) => {
      const topics = [...controller.image.topics.values()].filter(
        (topic) => request.includeInternal || !topic.name.startsWith(internalTopicPrefix),
      );
      const { page, nextPageToken } = pageOf(topics, (topic) => topic.name, request);
      return { topics: page.map(toTopic), nextPageToken };
    },
    describeTopic: async (request) => describeTopic(controller.image, request),
    alterTopic: async (request) => {
      checkCluster(controller.image, request.clusterId);
      const { requestId, name, set, unset } = request;
      const { answer, image } = await controller.submit({ kind: "alterTopic", requestId, name, set, unset });
      invariant(answer?.kind === "topicAltered", "a change of a topic is answered as one");
      return { topic: presentTopic(image, answer.topicId) };
    },
    initProducer: async (request) => {
      checkCluster(controller.image, request.clusterId);
      return initProducer(context, request);
    },
    removeProducer: async (request) => {
      checkCluster(controller.image, request.clusterId);
      const { requestId, name } = request;
      const { answer } = await controller.submit({ kind: "removeProducer", requestId, name });
      invariant(answer?.kind === "producerRemoved", "a removal is answered as one");
      return { producerId: answer.producerId };
    },
    watchMetadata: async (request, stream, call) => {
      const handshake = context.greet(request.handshake);
      await hub.serve({ token: request.token, handshake, stream, signal: call.signal }, log);
    },
  };
}

async function createTopic({ controller }: ServiceContext, request: CreateTopicRequest): Promise<Topic> {
  const { requestId, name, partitionCount, replicationFactor, config } = request;
  const command: Command = {
    kind: "createTopic",
    requestId,
    name,
    partitionCount,
    replicationFactor,
    config,
  };
  const { answer, image } = request.validateOnly
    ? controller.dryRun({ ...command, requestId: "" })
    : await controller.submit(command);
  invariant(answer?.kind === "topicCreated", "a creation is answered as one");
  return presentTopic(image, answer.topicId);
}

/** The topic of an answer: of a repeated request, it may have gone since. */
function presentTopic(image: ClusterImage, topicId: string): Topic {
  return toTopic(topicWithId(image, topicId, "the request was answered before; its topic had"));
}

function deleteCommand({ requestId, topic }: DeleteTopicRequest): Command {
  if (topic === undefined)
    throw new AppError("INVALID_REQUEST", "which topic is to be deleted? Give its name or id");
  const name = topic.$case === "name" ? topic.value : "";
  const topicId = topic.$case === "topicId" ? topic.value : "";
  if (topic.value === "") throw new AppError("INVALID_REQUEST", "the name or id of the topic is empty");
  return { kind: "deleteTopic", requestId, name, topicId };
}

function describeTopic(image: ClusterImage, { topic: which }: DescribeTopicRequest): DescribeTopicResponse {
  if (which === undefined) throw new AppError("INVALID_REQUEST", "which topic? Give its name or id");
  const topic =
    which.$case === "name" ? topicNamed(image, which.value) : topicWithId(image, which.value, "no topic has");
  const nodeIds = new Set(topic.partitions.flatMap((partition) => partition.replicaIds));
  const nodes = [...image.nodes.values()].filter((node) => nodeIds.has(node.nodeId));
  return { topic: toTopic(topic), nodes: nodes.map(toNode) };
}

async function initProducer(
  { controller, producerIds }: ServiceContext,
  { requestId, name, lineage }: InitProducerRequest,
): Promise<InitProducerResponse> {
  // Anonymous ids need no memory of requests: a repetition gets an id nobody else has, and the first is given up.
  if (name === "") {
    return { producerId: await producerIds.take(), producerEpoch: 0, previousProducerId: 0 };
  }
  const { answer } = await controller.submit({ kind: "initProducer", requestId, name, lineage });
  invariant(answer?.kind === "producerNamed", "an initialisation is answered as one");
  const { producerId, producerEpoch } = answer;
  const named = controller.image.producers.get(name);
  const previousProducerId = named?.producerId === producerId ? named.previousProducerId : 0;
  return { producerId, producerEpoch, previousProducerId };
}
