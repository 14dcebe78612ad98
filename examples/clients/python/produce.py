"""Writes plain records into partition 0 of a topic: produce.py TOPIC VALUE..."""
import sys

import grpc
from millrace.common.v1.common_pb2 import Record, RecordList
from millrace.metadata.v1.metadata_pb2 import DescribeTopicRequest
from millrace.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from millrace.storage.v1.storage_pb2 import ProduceBatch, ProduceOnceRequest
from millrace.storage.v1.storage_pb2_grpc import StorageServiceStub

name, values = sys.argv[1], sys.argv[2:]
metadata = MetadataServiceStub(grpc.insecure_channel("127.0.0.1:9750"))
described = metadata.DescribeTopic(DescribeTopicRequest(name=name))
partition = described.topic.partitions[0]
leader = next(node for node in described.nodes if node.node_id == partition.leader_id).listeners[0]
storage = StorageServiceStub(grpc.insecure_channel(f"{leader.host}:{leader.port}"))
records = RecordList(records=[Record(value=value.encode()) for value in values])
batch = ProduceBatch(topic_id=described.topic.topic_id, leader_epoch=partition.leader_epoch, records=records)
answer = storage.ProduceOnce(ProduceOnceRequest(batch=batch))
print(f"{answer.record_count} records at offset {answer.base_offset}")
