"""Prints what partition 0 of a topic holds: consume.py TOPIC"""
import sys

import grpc
from millrace.metadata.v1.metadata_pb2 import DescribeTopicRequest
from millrace.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from millrace.storage.v1.storage_pb2 import FetchOnceRequest, FetchPartition
from millrace.storage.v1.storage_pb2_grpc import StorageServiceStub

metadata = MetadataServiceStub(grpc.insecure_channel("127.0.0.1:9750"))
described = metadata.DescribeTopic(DescribeTopicRequest(name=sys.argv[1]))
partition = described.topic.partitions[0]
leader = next(node for node in described.nodes if node.node_id == partition.leader_id).listeners[0]
storage = StorageServiceStub(grpc.insecure_channel(f"{leader.host}:{leader.port}"))
wanted = FetchPartition(topic_id=described.topic.topic_id, leader_epoch=-1, position_epoch=-1, as_records=True)
while True:
    data = storage.FetchOnce(FetchOnceRequest(partition=wanted)).data
    for record in data.records.records:
        print(record.offset, record.value.decode(errors="replace"))
    wanted.offset = data.next_offset
    if wanted.offset >= data.high_watermark:
        break
