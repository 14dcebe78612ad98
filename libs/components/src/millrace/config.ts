/** Configuration of the millrace sink. */
import { size, z } from "@millrace/config";

/** Largest batch by default; a topic's `max.message.bytes` may lower it. */
const batchBytesDefault = 512 * 1024;

export const millraceConfig = z.strictObject({
  topic: z.string().min(1).meta({ description: "Topic to deliver into." }),
  partitions: z.coerce.number().int().min(0).default(0).meta({
    description: "Create the topic with so many partitions when it does not exist; 0 = do not create it.",
  }),
  keyHeader: z.string().default("").meta({
    description:
      "Header whose value becomes the record's key and decides its partition; without one a stream (file, connection) keeps to one partition.",
  }),
  bootstrapServers: z
    .array(z.string())
    .default([])
    .meta({ description: "Metadata addresses; the agent's own by default." }),
  compression: z
    .enum(["none", "gzip", "zstd"])
    .default("none")
    .meta({ description: "Codec of the batches." }),
  batchBytes: size().default(batchBytesDefault).meta({ description: "Largest batch sent." }),
  batchSize: z.coerce
    .number()
    .int()
    .min(1)
    .default(2000)
    .meta({ description: "Records taken from the channel at once." }),
  unsafeNoIdentity: z.boolean().default(false).meta({
    description:
      "Negative control of Millrace's own tests: sends without the producer identity, so that repetitions are not recognised. Never use it.",
  }),
});

export type MillraceConfig = z.output<typeof millraceConfig>;
