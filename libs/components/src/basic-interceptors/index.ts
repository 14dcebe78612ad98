/** Interceptors that add one header, as Flume names them. */
import { hostname, networkInterfaces } from "node:os";
import { z } from "@millrace/config";
import { defineInterceptor, type FlowRecord } from "@millrace/flow";

const flag = (fallback: boolean) => z.stringbool().or(z.boolean()).default(fallback);

const preserveExisting = (fallback: boolean) =>
  flag(fallback).meta({ description: "Leave a header that is there as it is." });

/** The record with the header set; one of the name that is there is kept or replaced. */
function withHeader(record: FlowRecord, key: string, value: Uint8Array, keepExisting: boolean): FlowRecord {
  const isPresent = record.headers.some((header) => header.key === key);
  if (isPresent && keepExisting) return record;
  const others = isPresent ? record.headers.filter((header) => header.key !== key) : record.headers;
  return { ...record, headers: [...others, { key, value }] };
}

/** Adds the time at which the record passed. */
export const timestampInterceptor = defineInterceptor({
  type: "timestamp",
  aliases: ["org.apache.flume.interceptor.TimestampInterceptor$Builder"],
  summary: "Adds a header with the present time, milliseconds since 1970.",
  guarantee: "exactly-once",
  config: z.strictObject({
    headerName: z.string().min(1).default("timestamp").meta({ description: "Name of the header." }),
    preserveExisting: preserveExisting(false),
  }),
  create: (config, context) => ({
    intercept: (record) =>
      withHeader(
        record,
        config.headerName,
        Buffer.from(String(context.clock.nowMs())),
        config.preserveExisting,
      ),
  }),
});

/** Adds this machine's name or address. */
export const hostInterceptor = defineInterceptor({
  type: "host",
  aliases: ["org.apache.flume.interceptor.HostInterceptor$Builder"],
  summary: "Adds a header with this machine's address or name.",
  guarantee: "exactly-once",
  config: z.strictObject({
    hostHeader: z.string().min(1).default("host").meta({ description: "Name of the header." }),
    useIP: flag(true).meta({ description: "The address; otherwise the host name." }),
    preserveExisting: preserveExisting(false),
  }),
  create: (config) => {
    const value = Buffer.from(config.useIP ? ownAddress() : hostname());
    return { intercept: (record) => withHeader(record, config.hostHeader, value, config.preserveExisting) };
  },
});

/** Adds a fixed header. */
export const staticInterceptor = defineInterceptor({
  type: "static",
  aliases: ["org.apache.flume.interceptor.StaticInterceptor$Builder"],
  summary: "Adds a header with a fixed value.",
  guarantee: "exactly-once",
  config: z.strictObject({
    key: z.string().min(1).default("key").meta({ description: "Name of the header." }),
    value: z.string().default("value").meta({ description: "Its value." }),
    preserveExisting: preserveExisting(true),
  }),
  create: (config) => {
    const value = Buffer.from(config.value);
    return { intercept: (record) => withHeader(record, config.key, value, config.preserveExisting) };
  },
});

/** First address that is not the loopback's; 127.0.0.1 where there is none. */
function ownAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return addresses.find((address) => !address.internal && address.family === "IPv4")?.address ?? "127.0.0.1";
}
