/** Configuration of the agent sink: Flume's names of the avro sink, and what the hop adds. */
import { duration, z } from "@millrace/config";

const settings = z.strictObject({
  hostname: z.string().default("127.0.0.1").meta({ description: "Host of the receiving agent." }),
  port: z.coerce
    .number()
    .int()
    .min(1)
    .max(65_535)
    .default(9780)
    .meta({ description: "Port of its ingest source." }),
  "batch-size": z.coerce
    .number()
    .int()
    .min(1)
    .default(1000)
    .meta({ description: "Records taken from the channel at once." }),
  inFlight: z.coerce
    .number()
    .int()
    .min(1)
    .max(1024)
    .default(64)
    .meta({ description: "Sends without answer at most." }),
  "connect-timeout": duration()
    .default(20_000)
    .meta({ description: "Time a receiver has to answer the handshake." }),
  "dispatch.pin.timeout": duration().default(600_000).meta({
    description:
      "How long records whose fate at a lost receiver is unknown wait for it before they are sent to another, marked and counted.",
  }),
  allowVolatile: z
    .stringbool()
    .or(z.boolean())
    .default(false)
    .meta({ description: "Accept a receiver whose channels are not durable." }),
  authorityFile: z
    .string()
    .optional()
    .meta({ description: "PEM file of the authority the receiver's certificate is of: TLS." }),
  certificateFile: z.string().optional().meta({ description: "PEM file of this agent's certificate." }),
  keyFile: z.string().optional().meta({ description: "PEM file of its key." }),
});

export const agentConfig = settings
  .refine((config) => config.authorityFile !== undefined || config.certificateFile === undefined, {
    path: ["certificateFile"],
    message: "a certificate is shown over TLS only: name the receiver's authorityFile too",
  })
  .refine((config) => (config.certificateFile === undefined) === (config.keyFile === undefined), {
    path: ["keyFile"],
    message: "certificateFile and keyFile go together",
  });

export type AgentSinkConfig = z.output<typeof agentConfig>;
