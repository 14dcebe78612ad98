/** Flume's component types that this version does not have yet: named as such instead of "unknown". */

/** By kind, as in Flume's documentation. */
export const flumeTypesToCome: Readonly<
  Record<"source" | "channel" | "sink" | "interceptor", readonly string[]>
> = {
  source: [
    ...["avro", "thrift", "exec", "jms", "spooldir", "netcatudp", "syslogtcp", "multiport_syslogtcp"],
    ...["syslogudp", "org.apache.flume.source.kafka.KafkaSource", "org.apache.flume.source.StressSource"],
    ...["org.apache.flume.source.scribe.ScribeSource", "avroLegacy", "thriftLegacy"],
  ],
  channel: ["jdbc", "spillablememory", "org.apache.flume.channel.kafka.KafkaChannel"],
  sink: [
    ...["avro", "thrift", "hdfs", "hive", "hbase", "hbase2", "asynchbase", "irc", "http", "morphline_solr"],
    ...["org.apache.flume.sink.kafka.KafkaSink", "org.apache.flume.sink.kudu.KuduSink", "elasticsearch"],
    "org.apache.flume.sink.solr.morphline.MorphlineSolrSink",
  ],
  interceptor: [
    ...["remove_header", "search_replace", "regex_filter", "regex_extractor"],
    "org.apache.flume.sink.solr.morphline.UUIDInterceptor$Builder",
    "org.apache.flume.sink.solr.morphline.MorphlineInterceptor$Builder",
  ],
};

/** Selectors and processors to come. */
export const selectorsToCome: readonly string[] = ["multiplexing", "load_balancing"];
/** See {@link selectorsToCome}. */
export const processorsToCome: readonly string[] = ["failover", "load_balance"];
